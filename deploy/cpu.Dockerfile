# Both services on ONNX Runtime CPU. From the root of the tree:
#   docker build -f deploy/cpu.Dockerfile --target edge -t splitcodec-edge .
#   docker build -f deploy/cpu.Dockerfile --target cloud -t splitcodec-cloud .
FROM python:3.12-slim AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY splitcodec splitcodec
COPY edge edge
COPY cloud cloud
RUN python -m venv /opt/splitcodec

FROM source AS edge-install
RUN /opt/splitcodec/bin/pip install --no-cache-dir ".[edge,cpu]"

FROM source AS cloud-install
RUN /opt/splitcodec/bin/pip install --no-cache-dir ".[cloud,cpu]"

FROM python:3.12-slim AS runtime
RUN useradd --uid 10001 --create-home splitcodec && install -d -o splitcodec /var/lib/splitcodec
ENV PATH=/opt/splitcodec/bin:$PATH PYTHONUNBUFFERED=1
VOLUME /var/lib/splitcodec
WORKDIR /var/lib/splitcodec
USER splitcodec

# A container's own loopback cannot be reached, so each image binds every address of its network. The services refuse
# that without TLS, unless the operator sets ..._INSECURE (docker-compose.yml does, on a network that is not published).
FROM runtime AS edge
COPY --from=edge-install /opt/splitcodec /opt/splitcodec
ENV SPLITCODEC_EDGE_HOST=0.0.0.0 SPLITCODEC_EDGE_PORT=8080 SPLITCODEC_EDGE_STATE_DIR=/var/lib/splitcodec
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["splitcodec-edge"]

FROM runtime AS cloud
COPY --from=cloud-install /opt/splitcodec /opt/splitcodec
ENV SPLITCODEC_CLOUD_HOST=0.0.0.0 SPLITCODEC_CLOUD_PORT=50051 \
    SPLITCODEC_CLOUD_METRICS_HOST=0.0.0.0 SPLITCODEC_CLOUD_METRICS_PORT=9464 \
    SPLITCODEC_CLOUD_DATA_DIR=/var/lib/splitcodec
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/metrics', timeout=2)"]
ENTRYPOINT ["splitcodec-cloud"]

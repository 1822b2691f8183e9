# The cloud service. From the root of the tree:
#   docker build -f deploy/cloud.Dockerfile -t splitcodec-cloud:0.1.0 .
#   docker build -f deploy/cloud.Dockerfile -t splitcodec-cloud:0.1.0-cuda --build-arg ENGINE=cuda \
#     --build-arg BASE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 .
#   docker build -f deploy/cloud.Dockerfile -t splitcodec-cloud-ray:0.1.0 --build-arg EXTRAS=scale .
ARG BASE=python:3.12.11-slim-bookworm

FROM ${BASE} AS python
RUN python3 -m venv --help >/dev/null 2>&1 \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)

FROM python AS install
ARG ENGINE=cpu
ARG EXTRAS=cloud
WORKDIR /src
# What it depends on first: a change of the sources does not install that again.
COPY deploy/constraints.txt deploy/constraints.txt
COPY deploy/requirements deploy/requirements
RUN python3 -m venv /opt/splitcodec
RUN /opt/splitcodec/bin/pip install --no-cache-dir -c deploy/constraints.txt \
    -r deploy/requirements/${EXTRAS}.txt -r deploy/requirements/${ENGINE}.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY splitcodec splitcodec
COPY edge edge
COPY cloud cloud
RUN /opt/splitcodec/bin/pip install --no-cache-dir --no-deps .

FROM python
RUN useradd --uid 10001 --user-group --create-home splitcodec && install -d -o splitcodec /var/lib/splitcodec
COPY --from=install /opt/splitcodec /opt/splitcodec
# A container's own loopback cannot be reached, so the image binds every address of its network. The service refuses that
# without TLS and client certificates or tokens, unless ..._INSECURE is set (docker-compose.yml does, on its own network).
ENV PATH=/opt/splitcodec/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SPLITCODEC_CLOUD_HOST=0.0.0.0 SPLITCODEC_CLOUD_PORT=50051 \
    SPLITCODEC_CLOUD_METRICS_HOST=0.0.0.0 SPLITCODEC_CLOUD_METRICS_PORT=9464 \
    SPLITCODEC_CLOUD_DATA_DIR=/var/lib/splitcodec
VOLUME /var/lib/splitcodec
WORKDIR /var/lib/splitcodec
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "cloud.health"]
ENTRYPOINT ["splitcodec-cloud"]

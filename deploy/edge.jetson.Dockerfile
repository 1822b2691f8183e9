# The edge on a Jetson with JetPack 6. From the root of the tree, on the Jetson:
#   docker build -f deploy/edge.jetson.Dockerfile -t splitcodec-edge:0.1.0-jetson .
#   docker run --runtime nvidia --read-only --tmpfs /tmp -v splitcodec:/var/lib/splitcodec splitcodec-edge:0.1.0-jetson
# TensorRT is JetPack's own Python package, seen through --system-site-packages: no wheel brings it, and no ONNX Runtime
# with a GPU comes from an index. ONNX Runtime's CPU wheel runs the exact scale graph, which belongs on the CPU.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

FROM ${BASE} AS python
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/*

FROM python AS install
WORKDIR /src
# What it depends on first: a change of the sources does not install that again.
COPY deploy/constraints.txt deploy/constraints.txt
COPY deploy/requirements deploy/requirements
RUN python3 -m venv --system-site-packages /opt/splitcodec
RUN /opt/splitcodec/bin/pip install --no-cache-dir -c deploy/constraints.txt \
    -r deploy/requirements/edge.txt -r deploy/requirements/jetson.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY splitcodec splitcodec
COPY edge edge
COPY cloud cloud
RUN /opt/splitcodec/bin/pip install --no-cache-dir --no-deps .

FROM python
RUN useradd --uid 10001 --user-group --create-home --groups video splitcodec && install -d -o splitcodec /var/lib/splitcodec
COPY --from=install /opt/splitcodec /opt/splitcodec
# Engines are built here at the first start and kept in the volume, readable by this user alone.
ENV PATH=/opt/splitcodec/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/lib/splitcodec/cache SPLITCODEC_EDGE_ENGINE=tensorrt \
    SPLITCODEC_EDGE_HOST=0.0.0.0 SPLITCODEC_EDGE_PORT=8080 SPLITCODEC_EDGE_STATE_DIR=/var/lib/splitcodec
VOLUME /var/lib/splitcodec
WORKDIR /var/lib/splitcodec
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["python", "-m", "edge.health"]
ENTRYPOINT ["splitcodec-edge"]

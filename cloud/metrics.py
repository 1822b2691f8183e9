"""Prometheus metrics of the cloud service. Base units; labels come from closed sets, never from a request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from cloud.settings import CloudSettings
from splitcodec.errors import SettingsError
from splitcodec.service import is_loopback

STAGE_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
AGE_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class CloudMetrics:
    """The metric families, registered with the registry that is handed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.frames = Counter(
            "splitcodec_cloud_frames_total",
            "Frames answered, by task; outcome is stored or repeated",
            ("task", "outcome"),
            registry=registry,
        )
        self.bitstream_bytes = Counter(
            "splitcodec_cloud_bitstream_bytes_total",
            "Bytes of bitstreams decoded",
            ("task",),
            registry=registry,
        )
        self.rejected = Counter(
            "splitcodec_cloud_rejected_total",
            "Requests refused, by error class",
            ("reason",),
            registry=registry,
        )
        self.stage = Histogram(
            "splitcodec_cloud_stage_seconds",
            "Time of one stage of one frame",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.batch_size = Histogram(
            "splitcodec_cloud_batch_size", "Frames decoded together", buckets=BATCH_BUCKETS, registry=registry
        )
        self.capture_to_result = Histogram(
            "splitcodec_cloud_capture_to_result_seconds",
            "From the capture on the device's clock to the result on this machine's",
            ("task",),
            buckets=AGE_BUCKETS_S,
            registry=registry,
        )
        self.pending = Gauge(
            "splitcodec_cloud_pending_frames", "Frames waiting for a batch or in one", registry=registry
        )
        self.streams = Gauge("splitcodec_cloud_ingest_streams", "Ingest streams open", registry=registry)
        self.watchers = Gauge("splitcodec_cloud_watchers", "Results.Watch calls open", registry=registry)
        self.stored = Gauge("splitcodec_cloud_stored_results", "Results in the store", registry=registry)
        self.stored_bytes = Gauge(
            "splitcodec_cloud_stored_bytes", "Bytes of results in the store", registry=registry
        )
        self.retired = Counter(
            "splitcodec_cloud_retired_total", "Results deleted by retention", registry=registry
        )
        self.prompt_info = Gauge(
            "splitcodec_prompt_info",
            "1 for each prompt this process serves",
            ("task", "digest"),
            registry=registry,
        )

    def observe_stages(self, seconds: Mapping[str, float]) -> None:
        """One observation per stage, in seconds."""
        for stage, duration in seconds.items():
            self.stage.labels(stage).observe(duration)


class MetricsServer:
    """Serves /metrics from a thread of its own; over TLS when it is bound to a public address."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        self.port: int = server.server_port

    @classmethod
    def start(cls, settings: CloudSettings, registry: CollectorRegistry) -> MetricsServer:
        """Bind and serve. SettingsError when the address is taken or the TLS files are unusable."""
        tls = settings.tls_cert is not None and not is_loopback(settings.metrics_host)
        try:
            server, thread = start_http_server(
                settings.metrics_port,
                settings.metrics_host,
                registry,
                certfile=str(settings.tls_cert) if tls else None,
                keyfile=str(settings.tls_key) if tls else None,
                client_cafile=str(settings.tls_client_ca) if tls and settings.tls_client_ca else None,
                client_auth_required=tls and settings.tls_client_ca is not None,
            )
        except OSError as error:
            raise SettingsError(
                f"metrics cannot be served on {settings.metrics_host}:{settings.metrics_port}: {error}; "
                "choose another metrics_port (0 takes a free one)"
            ) from error
        return cls(server, thread)

    def stop(self) -> None:
        """Close the socket and join the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

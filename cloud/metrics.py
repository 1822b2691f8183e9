"""Prometheus metrics of the cloud service. Base units; labels come from closed sets, never from a request."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitcodec.service_metrics import STAGE_BUCKETS_S, ServiceMetrics

AGE_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class CloudMetrics(ServiceMetrics):
    """The metric families, registered with the registry that is handed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, "cloud")
        self._add_frames(registry)
        self._add_times(registry)
        self._add_work(registry)
        self._add_store(registry)

    def _add_frames(self, registry: CollectorRegistry) -> None:
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

    def _add_times(self, registry: CollectorRegistry) -> None:
        self.stage = Histogram(
            "splitcodec_cloud_stage_seconds",
            "Time of one stage of one frame",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.capture_to_result = Histogram(
            "splitcodec_cloud_capture_to_result_seconds",
            "From the capture on the device's clock to the result on this machine's",
            ("task",),
            buckets=AGE_BUCKETS_S,
            registry=registry,
        )

    def _add_work(self, registry: CollectorRegistry) -> None:
        self.batch_size = Histogram(
            "splitcodec_cloud_batch_size", "Frames decoded together", buckets=BATCH_BUCKETS, registry=registry
        )
        self.pending = Gauge(
            "splitcodec_cloud_pending_frames", "Frames waiting for a batch or in one", registry=registry
        )
        self.streams = Gauge("splitcodec_cloud_ingest_streams", "Ingest streams open", registry=registry)
        self.watchers = Gauge("splitcodec_cloud_watchers", "Results.Watch calls open", registry=registry)

    def _add_store(self, registry: CollectorRegistry) -> None:
        self.stored = Gauge("splitcodec_cloud_stored_results", "Results in the store", registry=registry)
        self.stored_bytes = Gauge(
            "splitcodec_cloud_stored_bytes", "Bytes of results in the store", registry=registry
        )
        self.damaged_files = Gauge(
            "splitcodec_cloud_store_damaged_files",
            "Damaged result databases moved aside since the start",
            registry=registry,
        )
        self.state_bytes = Gauge(
            "splitcodec_cloud_state_bytes",
            "Bytes of the states in memory that frames of still cameras build on",
            registry=registry,
        )
        self.states_made_again = Counter(
            "splitcodec_cloud_states_made_again_total",
            "States that were not in memory and were decoded anew from the bitstreams in the store",
            registry=registry,
        )
        self.key_frames_needed = Counter(
            "splitcodec_cloud_key_frames_needed_total",
            "Frames refused because the state that they build on is not here",
            ("reason",),
            registry=registry,
        )
        self.lost = Gauge(
            "splitcodec_cloud_store_lost_results",
            "Results that could not be saved from damaged databases since the start",
            registry=registry,
        )
        self.retired = Counter(
            "splitcodec_cloud_retired_total", "Results deleted by retention", registry=registry
        )

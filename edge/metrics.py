"""Prometheus metrics of the edge service. Base units; labels come from closed or bounded sets."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitcodec.importance import importance_stats
from splitcodec.service_metrics import STAGE_BUCKETS_S, ServiceMetrics, start_at_zero

# 0.005 to 2 bits per pixel; in bytes, the base unit
BYTES_PER_PIXEL_BUCKETS: Final = tuple(
    bits / 8 for bits in (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
)
HELD_BUCKETS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
FRAME_BUCKETS_BYTES: Final = tuple(2**power for power in range(8, 19))  # 256 bytes to 256 KiB
RESULT_BUCKETS_S: Final = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    0.75,
    1.0,
    1.5,
    2.5,
    5.0,
    10.0,
    60.0,
)


class EdgeMetrics(ServiceMetrics):
    """The metric families, registered with the registry that is handed in.

    `camera` has at most SPLITCODEC_EDGE_MAX_CAMERAS values, and is empty for frames of those that are not
    served; `task` those of the pack; `outcome` is ok,
    spooled, repeated or an error class; `stage` is decode, a stage of the encoder, or send.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, "edge")
        self._add_frames(registry)
        self._add_times(registry)
        self._add_rates(registry)
        self._add_chains(registry)
        self._add_spool(registry)
        self._add_delivery(registry)

    def forget_camera(self, camera: str) -> None:
        """Drop the series of a camera that is served no more; those of configured sources stay."""
        for family in (
            self.frames,
            self.bitstream_bytes,
            self.picture_bytes,
            self.rate_point,
            self.importance_mean,
            self.importance_spread,
            self.target_bytes,
            self.allowed_bytes,
            self.measured_bytes,
            self.rate_short,
            self.recoded,
        ):
            samples = [sample.labels for metric in family.collect() for sample in metric.samples]
            for labels in {tuple(one.values()) for one in samples if one["camera"] == camera}:
                family.remove(*labels)

    def _add_frames(self, registry: CollectorRegistry) -> None:
        self.frames = Counter(
            "splitcodec_edge_frames_total",
            "Frames posted, by camera and task; outcome is ok, spooled, repeated or the class of the error",
            ("camera", "task", "outcome"),
            registry=registry,
        )
        self.bitstream_bytes = Counter(
            "splitcodec_edge_bitstream_bytes_total",
            "Bytes of bitstreams sent to the cloud",
            ("camera", "task"),
            registry=registry,
        )
        self.picture_bytes = Counter(
            "splitcodec_edge_picture_bytes_total",
            "Bytes of the picture files that became those bitstreams",
            ("camera", "task"),
            registry=registry,
        )
        self.bytes_per_pixel = Histogram(
            "splitcodec_edge_bytes_per_pixel",
            "Bytes of a bitstream per source pixel; times 8 is bpp",
            ("task",),
            buckets=BYTES_PER_PIXEL_BUCKETS,
            registry=registry,
        )
        self.frame_bytes = Histogram(
            "splitcodec_edge_frame_bytes",
            "Bytes of one bitstream",
            ("task",),
            buckets=FRAME_BUCKETS_BYTES,
            registry=registry,
        )
        self.pending = Gauge("splitcodec_edge_pending_frames", "Frames in work", registry=registry)
        self.unknown_results = Counter(
            "splitcodec_edge_unknown_results_total",
            "Results of a kind that this version does not know; they are kept and shown as such",
            registry=registry,
        )
        self.source_up = Gauge(
            "splitcodec_edge_source_up",
            "1 while a camera that this edge reads itself gives signs of life",
            ("camera",),
            registry=registry,
        )
        self.source_frames = Counter(
            "splitcodec_edge_source_frames_total",
            "Pictures of those cameras; outcome is taken, passed_over for a newer one, or unchanged",
            ("camera", "outcome"),
            registry=registry,
        )
        self.source_restarts = Counter(
            "splitcodec_edge_source_restarts_total",
            "Ends of a camera's reader process; reason is failed or stalled",
            ("camera", "reason"),
            registry=registry,
        )

    def _add_times(self, registry: CollectorRegistry) -> None:
        self.stage = Histogram(
            "splitcodec_edge_stage_seconds",
            "Time of one stage of one frame",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.result = Histogram(
            "splitcodec_edge_result_seconds",
            "From a frame's order to its result, on this machine's clock; frames that were waited for",
            ("task",),
            buckets=RESULT_BUCKETS_S,
            registry=registry,
        )

    def observe_importance(self, camera: str, task: str, maps: NDArray[np.float32] | None) -> None:
        """What steered a frame's bits: its importance maps, None where the pack's prompts have none."""
        if maps is not None:
            stats = importance_stats(maps)
            self.importance_mean.labels(camera, task).set(stats.mean)
            self.importance_spread.labels(camera, task).set(stats.spread)

    def _add_rates(self, registry: CollectorRegistry) -> None:
        self.rate_point = Gauge(
            "splitcodec_edge_rate_point", "Rate of the last frame", ("camera", "task"), registry=registry
        )
        self.importance_mean = Gauge(
            "splitcodec_edge_importance_mean",
            "Mean of the last frame's importance maps; 1 where the prompt leaves the bits alone",
            ("camera", "task"),
            registry=registry,
        )
        self.importance_spread = Gauge(
            "splitcodec_edge_importance_spread",
            "Standard deviation of the last frame's importance maps; near 0 they steer nothing",
            ("camera", "task"),
            registry=registry,
        )
        self.recoded = Counter(
            "splitcodec_edge_recoded_frames_total",
            "Frames that came out too big and were coded once more at a lower rate",
            ("camera",),
            registry=registry,
        )
        self.target_bytes = Gauge(
            "splitcodec_edge_target_bytes_per_second",
            "Target of rate control, by camera; 0 where it has none",
            ("camera",),
            registry=registry,
        )
        self.allowed_bytes = Gauge(
            "splitcodec_edge_allowed_bytes_per_second",
            "What rate control allows now: the target, less where link or backlog demand it",
            ("camera",),
            registry=registry,
        )
        self.measured_bytes = Gauge(
            "splitcodec_edge_measured_bytes_per_second",
            "Bitstream bytes per second that were coded, over the last 10 s",
            ("camera",),
            registry=registry,
        )
        self.rate_short = Gauge(
            "splitcodec_edge_rate_short",
            "1 while even the lowest rate exceeds what is allowed: frames are left out or queue up",
            ("camera",),
            registry=registry,
        )
        self.link_bytes = Gauge(
            "splitcodec_edge_link_bytes_per_second",
            "Capacity of the uplink as last measured; 0 while no limit was met",
            registry=registry,
        )

    def _add_chains(self, registry: CollectorRegistry) -> None:
        self.coded_frames = Counter(
            "splitcodec_edge_chain_frames_total",
            "Frames of cameras that hold cells; kind is key or held",
            ("kind",),
            registry=registry,
        )
        self.coded_bytes = Counter(
            "splitcodec_edge_chain_bytes_total", "Bytes of their bitstreams", ("kind",), registry=registry
        )
        self.key_frames = Counter(
            "splitcodec_edge_key_frames_total",
            "Key frames among them; reason is first, interval, changed, refused or unsafe",
            ("reason",),
            registry=registry,
        )
        self.held_cells = Histogram(
            "splitcodec_edge_held_cells_ratio",
            "Share of the cells of a frame that were not sent, key frames aside",
            buckets=HELD_BUCKETS,
            registry=registry,
        )
        start_at_zero(self.coded_frames, ["key", "held"])
        start_at_zero(self.coded_bytes, ["key", "held"])
        start_at_zero(self.key_frames, ["first", "interval", "changed", "refused", "unsafe"])

    def _add_spool(self, registry: CollectorRegistry) -> None:
        self.spool_frames = Gauge(
            "splitcodec_edge_spool_frames", "Frames on disk that wait for the cloud", registry=registry
        )
        self.spool_bytes = Gauge(
            "splitcodec_edge_spool_bytes", "Bytes of the bitstreams of those frames", registry=registry
        )
        self.spool_limit = Gauge(
            "splitcodec_edge_spool_limit_bytes", "Bytes of disk that the spool may use", registry=registry
        )
        self.spool_oldest = Gauge(
            "splitcodec_edge_spool_oldest_seconds",
            "How long the oldest of them has waited while the edge ran",
            registry=registry,
        )
        self.spool_commit = Histogram(
            "splitcodec_edge_spool_commit_seconds",
            "Time of one transaction of the spool, disk included",
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.spool_dropped = Counter(
            "splitcodec_edge_spool_dropped_total",
            "Frames dropped by a limit of the spool; reason is oldest, thinned or age",
            ("reason",),
            registry=registry,
        )
        self.spool_quarantined = Counter(
            "splitcodec_edge_spool_quarantined_total",
            "Frames that will not be sent any more; reason is damaged or refused",
            ("reason",),
            registry=registry,
        )
        self.spool_damaged_files = Counter(
            "splitcodec_edge_spool_damaged_files_total",
            "Spool files that were damaged and moved aside",
            registry=registry,
        )
        start_at_zero(self.spool_dropped, ["oldest", "thinned", "age"])
        start_at_zero(self.spool_quarantined, ["damaged", "refused"])

    def _add_delivery(self, registry: CollectorRegistry) -> None:
        self.uplink_up = Gauge(
            "splitcodec_edge_uplink_up",
            "1 while the cloud holds a stream of this edge open",
            registry=registry,
        )
        self.delivered = Counter(
            "splitcodec_edge_delivered_frames_total",
            "Frames the cloud has acknowledged; path is live or spool",
            ("path",),
            registry=registry,
        )
        self.stream_ends = Counter(
            "splitcodec_edge_stream_ends_total",
            "Ends of the stream to the cloud; reason is away or refused",
            ("reason",),
            registry=registry,
        )
        start_at_zero(self.delivered, ["live", "spool"])
        start_at_zero(self.stream_ends, ["away", "refused"])

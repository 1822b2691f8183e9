"""Prometheus metrics of the edge service. Base units; labels come from closed or bounded sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

STAGE_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
BPP_BUCKETS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


class EdgeMetrics:
    """The metric families, registered with the registry that is handed in.

    `camera` has at most SPLITCODEC_EDGE_MAX_CAMERAS values, `task` those of the pack; `outcome` is ok or an
    error class; `stage` is decode, a stage of the encoder, or send.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.frames = Counter(
            "splitcodec_edge_frames_total",
            "Frames posted, by camera and task; outcome is ok or the class of the error",
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
        self.bits_per_pixel = Histogram(
            "splitcodec_edge_bits_per_pixel",
            "Bits of a bitstream per source pixel",
            ("task",),
            buckets=BPP_BUCKETS,
            registry=registry,
        )
        self.stage = Histogram(
            "splitcodec_edge_stage_seconds",
            "Time of one stage of one frame",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.rate_point = Gauge(
            "splitcodec_edge_rate_point", "Rate of the last frame", ("camera", "task"), registry=registry
        )
        self.pending = Gauge("splitcodec_edge_pending_frames", "Frames in work", registry=registry)
        self.prompt_info = Gauge(
            "splitcodec_prompt_info",
            "1 for each prompt this process holds",
            ("task", "digest"),
            registry=registry,
        )

    def observe_stages(self, seconds: Mapping[str, float]) -> None:
        """One observation per stage, in seconds."""
        for stage, duration in seconds.items():
            self.stage.labels(stage).observe(duration)

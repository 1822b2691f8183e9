"""Metric families that both services have. Base units; every label comes from a closed or bounded set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from splitcodec import __version__

STAGE_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ServiceMetrics:
    """The base of each service's metrics, registered with the registry that is handed in.

    `prompt_swaps` has the outcome ok, rolled_back or the class of the error; `certificate_expiry` holds unix
    seconds, by the use of the certificate (never by a name in it). `background_failures` is for
    `splitcodec.background.keep_going`.
    """

    stage: Histogram

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        """service: edge or cloud."""
        self.registry = registry
        self.build_info = Gauge(
            "splitcodec_build_info", "1, with what runs", ("service", "version"), registry=registry
        )
        self.build_info.labels(service, __version__).set(1)
        self._add_prompts(registry)
        self.access_refused = Counter(
            "splitcodec_access_refused_total",
            "Calls that were refused for their token or certificate, by error class",
            ("reason",),
            registry=registry,
        )
        start_at_zero(self.access_refused, ["NotAuthenticated", "NotPermitted"])
        self.certificate_expiry = Gauge(
            "splitcodec_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate in use ends, by its use",
            ("use",),
            registry=registry,
        )
        self.background_failures = Counter(
            "splitcodec_background_failures_total",
            "Failures of work beside the calls, by task; it goes on after each",
            ("task",),
            registry=registry,
        )

    def _add_prompts(self, registry: CollectorRegistry) -> None:
        self.prompt_info = Gauge(
            "splitcodec_prompt_info",
            "1 for each prompt held here, in use or not, and for the last that are retired or failed",
            ("task", "digest", "state"),
            registry=registry,
        )
        self.prompt_swaps = Counter(
            "splitcodec_prompt_swaps_total",
            "Prompt swaps; outcome is ok, rolled_back (by itself) or the class of the error",
            ("outcome",),
            registry=registry,
        )
        start_at_zero(self.prompt_swaps, ["ok", "rolled_back"])
        self.prompt_stage = Histogram(
            "splitcodec_prompt_stage_seconds",
            "Time of one stage of a prompt's change; stage is fetch, verify, warm, store or switch",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.prompt_leases = Gauge(
            "splitcodec_prompt_leases", "Frames in work that hold a prompt", registry=registry
        )

    def observe_stages(self, seconds: Mapping[str, float], trace_id: str | None = None) -> None:
        """One observation per stage, in seconds; a trace id becomes its exemplar."""
        for stage, duration in seconds.items():
            self.stage.labels(stage).observe(duration, exemplar(trace_id))


def start_at_zero(counter: Counter, values: Iterable[str]) -> None:
    """Show a counter with one closed label from the start: an increase from nothing is none to Prometheus."""
    for value in values:
        counter.labels(value)


def exemplar(trace_id: str | None) -> dict[str, str] | None:
    """What links an observation to its trace, in the OpenMetrics form of /metrics."""
    return {"trace_id": trace_id} if trace_id else None

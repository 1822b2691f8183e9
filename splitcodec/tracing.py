"""Traces: one per frame, from capture to result, across both services. Off unless an endpoint is given.

The ids of a frame's trace are made from the frame's name (device, camera, seq), which is unique for ever. So
a frame that waited on disk for days, over restarts, still joins its trace, and nothing about it is stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from splitcodec.extras import needing

Attributes: TypeAlias = Mapping[str, str | int | float]
TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True)
class TraceParent:
    """A span as another process names it: W3C Trace Context, version 00. Ids are not 0."""

    trace_id: int
    span_id: int
    sampled: bool

    @classmethod
    def of_frame(cls, device: str, camera: str, seq: int, share: float) -> TraceParent:
        """The root span of a frame's trace; `share` of all frames, 0 to 1, are sampled."""
        digest = hashlib.sha256("\0".join((device, camera, str(seq))).encode()).digest()
        trace_id, span_id = (int.from_bytes(part, "big") or 1 for part in (digest[:16], digest[16:24]))
        return cls(trace_id, span_id, (trace_id & (2**64 - 1)) < share * 2**64)

    @classmethod
    def parse(cls, text: str) -> TraceParent | None:
        """None for anything that is not well-formed: a trace is never worth refusing a frame."""
        found = TRACEPARENT.fullmatch(text)
        if found is None or not int(found[1], 16) or not int(found[2], 16):
            return None
        return cls(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


class Tracing:
    """Tracing that is off: every call does nothing."""

    def frame(self, device: str, camera: str, seq: int) -> TraceParent | None:
        """The root span of a frame's trace, None if the frame is not sampled."""
        return None

    def root(self, name: str, span: TraceParent, start: int, end: int, attributes: Attributes) -> None:
        """Record a root span under exactly those ids; times in unix nanoseconds."""

    def child(self, name: str, parent: TraceParent, start: int, end: int, attributes: Attributes) -> None:
        """Record a span below `parent`; times in unix nanoseconds."""

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""


def trace_id(span: TraceParent | None) -> str | None:
    """As exemplars name it; None for a span that is not recorded."""
    return f"{span.trace_id:032x}" if span is not None and span.sampled else None


def open_tracing(service: str, endpoint: str | None, share: float) -> Tracing:
    """Tracing to an OTLP/gRPC endpoint (`http://host:4317`, or https), off without one.

    service: name in the traces; share: of frames that begin here, 0 to 1. RuntimeUnavailable: OpenTelemetry
    is not installed.
    """
    if endpoint is None:
        return Tracing()
    with needing("tracing"):
        from splitcodec.spans import SpanTracing, exporting_provider
    return SpanTracing(exporting_provider(service, endpoint), share)

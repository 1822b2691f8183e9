"""Tracing by OpenTelemetry; imported only when tracing is on."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from splitcodec import __version__
from splitcodec.tracing import Attributes, TraceParent, Tracing
from splitcodec.wire.options import proxy_options

EXPORT_TIMEOUT_S: Final = 5
_ROOT: ContextVar[TraceParent | None] = ContextVar("root", default=None)


class FrameIds(RandomIdGenerator):
    """Ids that were chosen for a root span; random ones for all others."""

    def generate_trace_id(self) -> int:
        """See IdGenerator."""
        root = _ROOT.get()
        return super().generate_trace_id() if root is None else root.trace_id

    def generate_span_id(self) -> int:
        """See IdGenerator."""
        root = _ROOT.get()
        return super().generate_span_id() if root is None else root.span_id


class SpanTracing(Tracing):
    """Records spans with a provider whose ids come from FrameIds. For any thread."""

    def __init__(self, provider: TracerProvider, share: float) -> None:
        """share: of frames that begin here, 0 to 1."""
        self._provider = provider
        self._share = share
        self._tracer = provider.get_tracer("splitcodec", __version__)

    def frame(self, device: str, camera: str, seq: int) -> TraceParent | None:
        """See Tracing."""
        span = TraceParent.of_frame(device, camera, seq, self._share)
        return span if span.sampled else None

    def root(self, name: str, span: TraceParent, start: int, end: int, attributes: Attributes) -> None:
        """See Tracing."""
        token = _ROOT.set(span)
        try:
            made = self._tracer.start_span(name, Context(), attributes=attributes, start_time=start)
        finally:
            _ROOT.reset(token)
        made.end(end)

    def child(self, name: str, parent: TraceParent, start: int, end: int, attributes: Attributes) -> None:
        """See Tracing."""
        flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
        remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
        context = set_span_in_context(NonRecordingSpan(remote), Context())
        self._tracer.start_span(
            name, context, kind=SpanKind.CONSUMER, attributes=attributes, start_time=start
        ).end(end)

    def close(self) -> None:
        """See Tracing."""
        self._provider.shutdown()


def frame_provider(service: str) -> TracerProvider:
    """A provider for SpanTracing without any processor. What is a root was sampled before it got here."""
    resource = Resource.create({"service.name": service, "service.version": __version__})
    return TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=resource, id_generator=FrameIds())


def exporting_provider(service: str, endpoint: str) -> TracerProvider:
    """One that sends spans in batches, off the path of frames; the oldest wait, the newest are dropped when
    the collector is away."""
    provider = frame_provider(service)
    exporter = OTLPSpanExporter(
        endpoint=endpoint,
        insecure=endpoint.startswith("http://"),
        timeout=EXPORT_TIMEOUT_S,
        channel_options=proxy_options(urlsplit(endpoint).netloc),  # type: ignore[arg-type]  # of one pair there
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider

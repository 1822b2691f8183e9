"""Tracing: one trace per frame over both services, spool and restart included; off, it costs no import."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from edge_rig import JPEG_TYPE, picture
from prometheus_client import CollectorRegistry
from tiny_pack import write_tiny_pack

from cloud.packs import PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from edge.__main__ import build_codec
from edge.app import create_app
from edge.metrics import EdgeMetrics
from edge.pipeline import open_pipeline
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.launch import start_service
from splitcodec.packs import load_pack
from splitcodec.tasks import ResultLimits
from splitcodec.tracing import TraceParent, Tracing

pytest.importorskip("opentelemetry.sdk", reason="pip install '.[tracing]'")
pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="pip install '.[tracing]'")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from splitcodec.spans import SpanTracing, frame_provider


class Spans(SpanExporter):
    """Keeps what one service recorded."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self._came = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._came:
            self.spans += spans
            self._came.notify_all()
        return SpanExportResult.SUCCESS

    def tracing(self, service: str, share: float = 1.0) -> Tracing:
        """Tracing that ends here."""
        provider = frame_provider(service)
        provider.add_span_processor(SimpleSpanProcessor(self))
        return SpanTracing(provider, share)

    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    async def wait_for(self, name: str) -> ReadableSpan:
        """The first span of that name, as soon as it is there."""

        def wait() -> ReadableSpan:
            with self._came:
                assert self._came.wait_for(lambda: name in self.names(), PATIENCE_S), self.names()
                return self.spans[self.names().index(name)]

        return await asyncio.to_thread(wait)


@asynccontextmanager
async def cloud(pack: Path, data: Path, spans: Spans, port: int = 0) -> AsyncIterator[int]:
    """A cloud on the tiny pack; its port."""
    runner = PackRunner([load_pack(str(pack))], "auto", 1, ResultLimits())
    settings = CloudSettings(port=port, metrics_port=0, data_dir=data)
    async with CloudServer(settings, runner, CollectorRegistry(), tracing=spans.tracing("cloud")) as server:
        yield server.grpc_port


@asynccontextmanager
async def edge(pack: Path, state_dir: Path, port: int, tracing: Tracing) -> AsyncIterator[httpx.AsyncClient]:
    """An edge on the tiny pack, without a socket."""
    settings = EdgeSettings(
        pack=str(pack), threads=1, state_dir=state_dir, device="box", cloud_target=f"127.0.0.1:{port}"
    )
    uplink, state = GrpcUplink(settings, tracing), EdgeState(state_dir, "box")
    parts = (settings, build_codec(settings), uplink, state, EdgeMetrics(CollectorRegistry()))
    async with open_pipeline(*parts, tracing=tracing) as pipeline:
        transport = httpx.ASGITransport(create_app(pipeline), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=60) as http:
            yield http
    await uplink.close()
    state.close()


async def _post(http: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await http.post("/v1/frames", content=picture(), params=asked, headers=JPEG_TYPE)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "tiny"
    write_tiny_pack(folder)
    return folder


async def test_a_frame_is_one_trace_over_both_services(pack: Path, tmp_path: Path) -> None:
    above, below = Spans(), Spans()
    async with (
        cloud(pack, tmp_path / "cloud", above) as port,
        edge(pack, tmp_path / "edge", port, below.tracing("edge")) as http,
    ):
        frame = await _post(http, camera="door")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        metrics = (await http.get("/metrics", headers=accept)).text
    (root,), (answer,) = below.spans, above.spans
    assert (root.name, root.parent, answer.name) == ("frame", None, "answer")
    assert root.context is not None
    assert answer.context is not None
    assert answer.parent is not None
    assert answer.context.trace_id == root.context.trace_id
    assert answer.parent.span_id == root.context.span_id
    assert root.start_time <= answer.start_time <= answer.end_time <= root.end_time  # type: ignore[operator]
    assert root.start_time == pytest.approx(frame["capture_time"] * 1e9, abs=1e6)
    attributes = dict(root.attributes or {})
    assert (attributes["splitcodec.seq"], attributes["splitcodec.outcome"]) == (frame["seq"], "ok")
    assert attributes["splitcodec.bytes"] == frame["num_bytes"]
    exemplar = re.search(r'splitcodec_edge_result_seconds_bucket\{.*# \{trace_id="(\w+)"\}', metrics)
    assert exemplar
    assert int(exemplar[1], 16) == root.context.trace_id


async def test_every_frame_of_a_stream_has_a_trace_of_its_own(pack: Path, tmp_path: Path) -> None:
    above, below = Spans(), Spans()
    async with (
        cloud(pack, tmp_path / "cloud", above) as port,
        edge(pack, tmp_path / "edge", port, below.tracing("edge")) as http,
    ):
        for _ in range(3):
            await _post(http)
    traces = [{span.context.trace_id for span in spans.spans if span.context} for spans in (above, below)]
    assert len(traces[0]) == 3
    assert traces[0] == traces[1]


async def test_a_frame_that_waited_on_disk_over_a_restart_joins_its_trace(pack: Path, tmp_path: Path) -> None:
    before, after, above = Spans(), Spans(), Spans()
    async with cloud(pack, tmp_path / "cloud", Spans()) as port:
        pass  # the port is free again: nobody answers there
    async with edge(pack, tmp_path / "edge", port, before.tracing("edge")) as http:
        assert (await _post(http, camera="door", wait="false"))["state"] == "spooled"
    async with (
        cloud(pack, tmp_path / "cloud", above, port),
        edge(pack, tmp_path / "edge", port, after.tracing("edge")),
    ):
        answer, late = await above.wait_for("answer"), await after.wait_for("late answer")
    (root,) = before.spans
    assert root.context is not None
    assert dict(root.attributes or {})["splitcodec.outcome"] == "spooled"
    for span in (answer, late):
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (root.context.trace_id, root.context.span_id)


async def test_frames_outside_the_share_leave_no_span_on_either_side(pack: Path, tmp_path: Path) -> None:
    above, below = Spans(), Spans()
    async with (
        cloud(pack, tmp_path / "cloud", above) as port,
        edge(pack, tmp_path / "edge", port, below.tracing("edge", share=0.0)) as http,
    ):
        await _post(http)
    assert (above.spans, below.spans) == ([], [])


def test_the_share_is_the_share_of_frames() -> None:
    sampled = sum(TraceParent.of_frame("box", "door", seq, 0.25).sampled for seq in range(4000))
    assert 850 < sampled < 1150


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
        "\N{ARABIC-INDIC DIGIT ONE}" * 55,
        "x" * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
async def test_a_hostile_traceparent_is_ignored_and_its_frame_answered(text: str, tmp_path: Path) -> None:
    assert TraceParent.parse(text) is None
    async with running(tmp_path) as plain:
        answer = await plain.ingest.Infer(infer_request(1, traceparent=text), timeout=PATIENCE_S)
    assert answer.result.key.seq == 1


def test_traceparent_is_written_as_it_is_read() -> None:
    span = TraceParent.of_frame("box", "door", 7, 1.0)
    assert TraceParent.parse(str(span)) == span


def test_tracing_that_is_off_imports_nothing() -> None:
    code = (
        "import cloud.__main__, edge.__main__, sys; "
        "from splitcodec.tracing import open_tracing; open_tracing('edge', None, 1.0); "
        "ours = ('splitcodec.spans', 'opentelemetry.sdk', 'opentelemetry.exporter'); "  # FastAPI has the API
        "sys.exit(any(name.startswith(ours) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector: (service, span) of everything it was sent."""

    spans: list[tuple[str, Any]] = field(default_factory=list)

    def Export(self, request: Any, context: Any) -> Any:
        for one in request.resource_spans:
            named = {pair.key: pair.value.string_value for pair in one.resource.attributes}
            self.spans += [(named["service.name"], span) for part in one.scope_spans for span in part.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector on a loopback port, and its endpoint."""
    server, collector = grpc.server(ThreadPoolExecutor(2)), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.mark.slow
def test_both_processes_send_their_spans_to_a_collector(pack: Path, tmp_path: Path) -> None:
    with collecting() as (collector, endpoint):
        flags = [f"--packs={pack}", f"--data-dir={tmp_path / 'cloud'}", "--metrics-port=0"]
        with start_service("cloud", [*flags, f"--otlp-endpoint={endpoint}"], tmp_path) as above:
            target = f"--cloud-target=127.0.0.1:{above.ports['grpc_port']}"
            flags = [f"--pack={pack}", f"--state-dir={tmp_path / 'edge'}", target, "--trace-share=1"]
            with start_service("edge", [*flags, f"--otlp-endpoint={endpoint}"], tmp_path) as below:
                url = f"http://127.0.0.1:{below.ports['http_port']}/v1/frames"
                httpx.post(url, content=picture(), headers=JPEG_TYPE, timeout=60).raise_for_status()
    spans = {service: span for service, span in collector.spans}
    assert set(spans) == {"splitcodec-edge", "splitcodec-cloud"}
    root, answer = spans["splitcodec-edge"], spans["splitcodec-cloud"]
    assert (answer.trace_id, answer.parent_span_id) == (root.trace_id, root.span_id)

"""For the cloud tests: a runner with plain rules in place of the networks, around it a real server."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from cloud.runner import Admission, FrameRunner, ServedPrompt, TaskOutput, run_together
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from splitcodec.bitstream import Bitstream, Header, parse, serialize
from splitcodec.codec import LatentState
from splitcodec.errors import GraphFailed, SigmaIndexMismatch, SplitcodecError, UnknownPrompt
from splitcodec.tasks import Box, Detection, Detections
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest, StreamRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub
from splitcodec.wire.v1.results_pb2 import FrameKey
from splitcodec.wire.v1.results_pb2_grpc import ResultsStub

CODEC = bytes(range(8))
PROMPT = bytes(range(8, 16))
CAPTURED = 1_700_000_000_000_000_000
PATIENCE_S = 20.0  # deadline of calls that must succeed; far above what they take


class PlainRunner:
    """Answers a real bitstream with one detection whose label is the text in its y substream.

    Text `forged` gives SigmaIndexMismatch for that frame, `fatal` an error that no table knows. While `gate`
    is closed no batch ends. `batches` holds what was run, in order.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.batches: list[list[str]] = []

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """One prompt, for task detect."""
        return (ServedPrompt("detect", "plain", CODEC, PROMPT, 4, 416, 416, ("cat", "dog"), "yolox"),)

    holds = False

    @contextmanager
    def admit(self, bitstream: bytes, state: LatentState | None = None) -> Iterator[Admission]:
        """Frames of one network size share a group."""
        header = parse(bitstream).header
        if header.prompt_digest != PROMPT:
            raise UnknownPrompt(
                f"prompt {header.prompt_digest.hex()} is not here; publish it here or re-encode"
            )
        yield Admission(bitstream, "detect", header.network_height, self._run_admitted)

    def _run_admitted(self, frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
        return self.run([frame.bitstream for frame in frames])

    def run(self, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
        """One answer per frame."""
        parsed = [parse(bitstream) for bitstream in bitstreams]
        self.batches.append([one.y.decode() for one in parsed])
        self.started.set()
        if not self.gate.wait(PATIENCE_S):
            raise TimeoutError("the test forgot to open the gate")
        return [self._one(one) for one in parsed]

    def _one(self, bitstream: Bitstream) -> TaskOutput | SplitcodecError:
        text = bitstream.y.decode()
        if text == "forged":
            return SigmaIndexMismatch("sigma indexes differ; report it")
        if text == "fatal":
            return GraphFailed("secret detail of a graph")
        found = Detection(text, 1, 0.5, Box(1.0, 2.0, 3.0, 4.0))
        return TaskOutput("detect", bitstream.header, Detections((found,)), {"decoder": 0.25})


def answered(runner: FrameRunner, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
    """What a runner answers to bitstreams that are admitted and run together."""
    with ExitStack() as admitted:
        return run_together([admitted.enter_context(runner.admit(one)) for one in bitstreams])


@dataclass(frozen=True)
class Cloud:
    """A running server and one channel to it."""

    server: CloudServer
    channel: grpc.aio.Channel
    runner: PlainRunner
    registry: CollectorRegistry
    data_dir: Path

    @property
    def target(self) -> str:
        """host:port to connect to."""
        return f"127.0.0.1:{self.server.grpc_port}"

    @property
    def ingest(self) -> FeatureIngestStub:
        return FeatureIngestStub(self.channel)

    @property
    def results(self) -> ResultsStub:
        return ResultsStub(self.channel)

    @property
    def prompts(self) -> PromptsStub:
        return PromptsStub(self.channel)

    def metric(self, name: str, **labels: str) -> float:
        """Value of one sample, 0 if it is not there yet."""
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(
    data_dir: Path, runner: PlainRunner | None = None, **settings: object
) -> AsyncIterator[Cloud]:
    """A real server on free ports with a plain runner."""
    runner = runner or PlainRunner()
    registry = CollectorRegistry()
    chosen = CloudSettings(port=0, metrics_port=0, data_dir=data_dir, **settings)
    async with CloudServer(chosen, runner, registry) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            try:
                yield Cloud(server, channel, runner, registry, data_dir)
            finally:
                if isinstance(runner, PlainRunner):
                    runner.gate.set()


def bitstream(text: str, prompt: bytes = PROMPT, network_side: int = 32) -> bytes:
    """A sound bitstream v1 that carries `text`."""
    header = Header(CODEC, prompt, 256, 480, 640, network_side, network_side, 7)
    return serialize(Bitstream(header, b"", text.encode()))


def frame(seq: int, camera: str = "door", text: str | None = None, **fields: object) -> Frame:
    """Frame `seq` of a camera; its text is camera and seq unless given."""
    data = bitstream(f"{camera}-{seq}" if text is None else text)
    values = {"capture_time_unix_nanos": CAPTURED + seq, "task": "detect", "bitstream": data, **fields}
    return Frame(key=FrameKey(device="box", camera=camera, seq=seq), **values)


def infer_request(seq: int, camera: str = "door", text: str | None = None, **fields: object) -> InferRequest:
    """`frame` as a unary request."""
    return InferRequest(frame=frame(seq, camera, text, **fields))


def stream_request(seq: int, camera: str = "door", text: str | None = None) -> StreamRequest:
    """`frame` as a stream message."""
    return StreamRequest(frame=frame(seq, camera, text))


def error_name(error: grpc.aio.AioRpcError) -> str:
    """The class name the server put into the trailing metadata."""
    return dict(error.trailing_metadata()).get("splitcodec-error", "")

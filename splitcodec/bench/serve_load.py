"""Frames for a cloud service, and a client that keeps so many of them on their way at once."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from splitcodec.bench.photos import PostedPhoto
from splitcodec.codec import FeatureEncoder
from splitcodec.frame import read_canvas
from splitcodec.packs import Pack
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult

COMPUTING = ("entropy", "hyper", "decoder", "tail", "postprocess")
"""Stages of the cloud that compute; all else a call takes is overhead."""
CALL_TIMEOUT_S = 120.0
PER_RUN = ("key", "received_time_unix_nanos", "finished_time_unix_nanos", "stage_seconds", "cursor")
"""Fields of a result that say who asked, when and how fast, not what was seen."""


@dataclass(frozen=True)
class CallTimes:
    """Seconds of one call: the client's wall time and the service's stages; digest: SHA-256 of the answer."""

    wall: float
    stages: Mapping[str, float]
    digest: str

    @property
    def overhead(self) -> float:
        """Wall time that no computing stage accounts for: gRPC, queues, commit, the engine between."""
        return self.wall - sum(self.stages.get(name, 0.0) for name in COMPUTING)


@dataclass(frozen=True)
class Load:
    """What a run of calls took; seconds: from the first call to the last answer."""

    calls: Sequence[CallTimes]
    seconds: float


def encode_photos(pack: Pack, task: str, photos: Sequence[PostedPhoto], rate: float | None) -> list[bytes]:
    """Each photo as a bitstream, at the middle of the pack's rates by default.

    Raises UnknownTask, RateOutOfRange and the FrameError family.
    """
    convention, prompt = pack.task(task).input, pack.prompt(task)
    encoder = FeatureEncoder(pack)
    at = (pack.manifest.codec.rate_points - 1) / 2 if rate is None else rate
    bitstreams = []
    for photo in photos:
        canvas = read_canvas(photo.data, photo.content_type, convention)
        size = (canvas.source_height, canvas.source_width)
        bitstreams.append(encoder.compress(canvas.pixels, prompt, at, size).data)
    return bitstreams


async def send(
    ports: Sequence[int],
    bitstreams: Sequence[bytes],
    frames: range,
    clients: int,
    advance: Callable[[], None],
) -> Load:
    """Send frames by number, round and round through bitstreams and ports, `clients` of them at once."""
    numbers = iter(frames)
    calls: list[CallTimes] = []
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client_options()) for port in ports]
    stubs = [FeatureIngestStub(channel) for channel in channels]  # type: ignore[no-untyped-call]

    async def client() -> None:
        for number in numbers:
            request = _request(number, bitstreams[number % len(bitstreams)])
            started = time.perf_counter()
            response = await stubs[number % len(stubs)].Infer(request, timeout=CALL_TIMEOUT_S)
            wall = time.perf_counter() - started
            calls.append(CallTimes(wall, dict(response.result.stage_seconds), _digest(response.result)))
            advance()

    try:
        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return Load(calls, time.perf_counter() - started)
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    """A quantile in milliseconds, rounded to a microsecond."""
    return round(1000 * float(np.quantile(np.asarray(seconds), share)), 3)


def _request(number: int, bitstream: bytes) -> InferRequest:
    key = FrameKey(device="bench", camera=f"camera-{number}", seq=0)  # one camera each: calls need no order
    return InferRequest(
        frame=Frame(key=key, capture_time_unix_nanos=time.time_ns(), task="", bitstream=bitstream)
    )


def _digest(result: TaskResult) -> str:
    same = TaskResult()
    same.CopyFrom(result)
    for field in PER_RUN:
        same.ClearField(field)
    same.ClearField("capture_time_unix_nanos")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()

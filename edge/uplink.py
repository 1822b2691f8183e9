"""The way to the cloud: the one place of the edge that knows gRPC."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast

import grpc
import grpc.aio

from edge.cloud_link import CloudLink
from edge.settings import EdgeSettings
from edge.waiting import in_time
from splitcodec.errors import CloudRefused, CloudUnavailable, ResultRetired
from splitcodec.tasks import TaskAnswer, answer_of
from splitcodec.texts import shortened
from splitcodec.tracing import Tracing
from splitcodec.wire.integrity import frame_crc, is_intact
from splitcodec.wire.names import ERROR_KEY, RATE_ONE, TIME_KEY
from splitcodec.wire.v1 import ingest_pb2, ingest_pb2_grpc, results_pb2

log = logging.getLogger(__name__)

MAX_TEXT: Final = 500  # characters of what the cloud says, in logs, answers and the spool
_AWAY: Final = {
    grpc.StatusCode.UNAVAILABLE: "cannot be reached",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "has too many frames waiting",
    grpc.StatusCode.CANCELLED: "dropped the call",
    grpc.StatusCode.UNAUTHENTICATED: "does not know this edge's token",
    grpc.StatusCode.PERMISSION_DENIED: "does not let this edge's token send these frames",
}
"""Troubles that pass: frames wait for their end."""

_CURABLE: Final = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_Call: TypeAlias = "grpc.aio.StreamStreamCall[ingest_pb2.StreamRequest, ingest_pb2.StreamResponse]"


@dataclass(frozen=True)
class OutgoingFrame:
    """A compressed frame and its name; capture_time_nanos: unix time."""

    device: str
    camera: str
    seq: int
    task: str
    capture_time_nanos: int
    bitstream: bytes


@dataclass(frozen=True)
class FrameKey:
    """The name of one frame for ever."""

    device: str
    camera: str
    seq: int


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's result for one frame, and what it says of the frame.

    capture_time_nanos: unix time; rate in steps of 1/256; digests: 8 bytes; sizes (height, width) in pixels;
    stage_seconds: computing in the cloud.
    """

    key: FrameKey
    task: str
    answer: TaskAnswer
    capture_time_nanos: int
    num_bytes: int
    rate: float
    codec_digest: bytes
    prompt_digest: bytes
    source_size: tuple[int, int]
    network_size: tuple[int, int]
    stage_seconds: Mapping[str, float]


@dataclass(frozen=True)
class Refused:
    """The cloud did not answer a frame.

    settled: the same bytes would be refused for ever, whatever the status code says of other refusals;
    curable: a roll-out in the cloud would help; otherwise the frame may be damaged on the way, or be fatal to
    the decoder. passing: it is the cloud's trouble, not the frame's. error: class name, or the status code.
    """

    key: FrameKey
    settled: bool
    curable: bool
    passing: bool
    error: str
    message: str

    @property
    def delivered(self) -> bool:
        """Whether the frame was answered before and its result deleted since: nothing is lost."""
        return self.settled and self.error == ResultRetired.__name__


@dataclass(frozen=True)
class Reply:
    """One message of the cloud, read in this order. An ack settles every frame of its camera up to it."""

    answers: tuple[CloudAnswer, ...]
    refusals: tuple[Refused, ...]
    acks: tuple[FrameKey, ...]
    unread: tuple[FrameKey, ...] = ()  # answers that this edge cannot read, settled nevertheless


class CloudStream(Protocol):
    """Frames up, replies down, until one side ends it."""

    max_in_flight: int
    held_frames: bool  # whether the cloud decodes frames that hold cells

    async def send(self, frame: OutgoingFrame) -> None:
        """Waits until the connection takes it. CloudUnavailable: the stream has ended."""
        ...

    async def receive(self) -> Reply:
        """The next reply. CloudUnavailable: the stream has ended."""
        ...


class Uplink(Protocol):
    """Opens streams to a cloud."""

    def stream(self) -> AbstractAsyncContextManager[CloudStream]:
        """A stream that the cloud has accepted, ended with the block. CloudUnavailable."""
        ...

    def state(self) -> str:
        """State of the connection: idle, connecting, ready, transient_failure or shutdown."""
        ...

    def clock_offset_s(self) -> float | None:
        """Seconds that the cloud's clock is ahead, as of the last stream; None if it did not tell."""
        ...


class GrpcUplink:
    """The ingest service at the other end of a link."""

    def __init__(self, settings: EdgeSettings, tracing: Tracing | None = None) -> None:
        """Begins to connect. SettingsError: a TLS file or the token file cannot be used."""
        self._tracing = tracing or Tracing()
        self._deadline_s = settings.deadline_s
        self.link = CloudLink(settings)
        self._clock_offset_s: float | None = None

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[CloudStream]:
        """See Uplink."""
        async with self.link.channel() as channel:
            ingest = ingest_pb2_grpc.FeatureIngestStub(channel)  # type: ignore[no-untyped-call]
            call = ingest.Stream(metadata=self.link.metadata())
            try:
                stream = _GrpcStream(call, self.link.place, self._tracing)
                asked = time.time()
                if await in_time(stream.open(), self._deadline_s) is None:
                    why = f"did not open a stream within {self._deadline_s} s"
                    raise CloudUnavailable(f"the cloud at {self.link.place} {why}; look at its health")
                if (told := await stream.cloud_time()) is not None:
                    self._clock_offset_s = told - (asked + time.time()) / 2
                yield stream
            finally:
                call.cancel()

    def state(self) -> str:
        """See Uplink."""
        return self.link.state()

    def clock_offset_s(self) -> float | None:
        """See Uplink."""
        return self._clock_offset_s

    async def close(self) -> None:
        """Cancel running calls and close the channel."""
        await self.link.close()


class _GrpcStream:
    """See CloudStream."""

    def __init__(self, call: _Call, place: str, tracing: Tracing) -> None:
        self.max_in_flight = 1
        self.held_frames = False
        self._tracing = tracing
        self._call = call
        self._place = place
        self._num_sent = 0

    async def open(self) -> int:
        """Wait for the cloud's first message: how many frames may be under way. CloudUnavailable."""
        first = await self._read()
        self.max_in_flight = max(1, first.opened.max_in_flight)
        self.held_frames = first.opened.held_frames
        return self.max_in_flight

    async def cloud_time(self) -> float | None:
        """The cloud's unix time when it opened the stream, which it has; None if it did not tell."""
        metadata = cast("Iterable[tuple[str, str]]", await self._call.initial_metadata() or ())
        told = [value for key, value in metadata if key == TIME_KEY]
        if not (told and told[0].isascii() and told[0].isdigit() and len(told[0]) < 20):
            return None
        return int(told[0]) / 1e9

    async def send(self, frame: OutgoingFrame) -> None:
        """See CloudStream."""
        message = ingest_pb2.Frame(
            key=results_pb2.FrameKey(device=frame.device, camera=frame.camera, seq=frame.seq),
            capture_time_unix_nanos=frame.capture_time_nanos,
            task=frame.task,
            bitstream=frame.bitstream,
            traceparent=str(self._tracing.frame(frame.device, frame.camera, frame.seq) or ""),
        )
        message.crc32c = frame_crc(message)
        try:
            await self._call.write(ingest_pb2.StreamRequest(frame=message, index=self._num_sent))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise CloudUnavailable(f"the cloud at {self._place} ended the stream") from error
        self._num_sent += 1

    async def receive(self) -> Reply:
        """See CloudStream."""
        response = await self._read()
        answers = [(_key(result.key), _answer(result)) for result in response.results]
        return Reply(
            tuple(answer for _, answer in answers if answer is not None),
            tuple(map(_refused, response.rejections)),
            tuple(map(_key, response.acks)),
            tuple(key for key, answer in answers if answer is None),
        )

    async def _read(self) -> ingest_pb2.StreamResponse:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise CloudUnavailable(f"the cloud at {self._place} {_why(error)}") from error
        if not isinstance(response, ingest_pb2.StreamResponse):  # the end of the stream
            raise CloudUnavailable(f"the cloud at {self._place} ended the stream")
        if not is_intact(response):
            raise CloudUnavailable(f"a reply of the cloud at {self._place} was damaged on the way; use TLS")
        return response


def _why(error: grpc.aio.AioRpcError) -> str:
    code, details = error.code(), shortened(error.details() or "no details", MAX_TEXT)
    metadata = cast("Iterable[tuple[str, str]]", error.trailing_metadata() or ())  # the stubs lag behind
    names = [value for key, value in metadata if key == ERROR_KEY]
    said = " ".join([code.name, *names])
    return f"{_AWAY.get(code, 'ended the stream')}: {said}: {details}"


def _key(key: results_pb2.FrameKey) -> FrameKey:
    return FrameKey(key.device, key.camera, key.seq)


def _refused(rejection: ingest_pb2.Rejection) -> Refused:
    code = _CODES.get(rejection.code, grpc.StatusCode.UNKNOWN)
    return Refused(
        key=_key(rejection.key),
        settled=rejection.settled,
        curable=not rejection.settled and code in _CURABLE,
        passing=not rejection.settled and code in _AWAY and code not in _CURABLE,
        error=rejection.error or code.name,
        message=shortened(rejection.message, MAX_TEXT),
    )


def _answer(result: results_pb2.TaskResult) -> CloudAnswer | None:
    """None if this edge cannot read the answer, which is settled nevertheless."""
    try:
        answer = answer_of(result)
    except CloudRefused as error:
        log.error("frame %s: %s", _key(result.key), error)
        return None
    return CloudAnswer(
        key=_key(result.key),
        task=result.task,
        answer=answer,
        capture_time_nanos=result.capture_time_unix_nanos,
        num_bytes=result.num_bytes,
        rate=result.rate_fixed / RATE_ONE,
        codec_digest=result.codec_digest,
        prompt_digest=result.prompt_digest,
        source_size=(result.source_height, result.source_width),
        network_size=(result.network_height, result.network_width),
        stage_seconds=dict(result.stage_seconds),
    )

"""FeatureIngest: one frame per call, or a long-lived stream per edge with cumulative acks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import grpc

from cloud.devices import DeviceLimits, StreamPlace
from cloud.messages import incoming_frame
from cloud.metrics import CloudMetrics
from cloud.pipeline import Answer, Pipeline
from cloud.status import CallRefusal, end_call, refusal_for, refusing
from cloud.store import Committed
from splitcodec.errors import FrameMissing, ServiceStopping
from splitcodec.wire.integrity import response_crc
from splitcodec.wire.names import TIME_KEY
from splitcodec.wire.v1.ingest_pb2 import (
    Frame,
    InferRequest,
    InferResponse,
    Rejection,
    StreamOpened,
    StreamRequest,
    StreamResponse,
)
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestServicer
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult

MAX_SETTLED_TOGETHER: Final = 32  # frames per transaction; bounds how long the first one waits
MAX_RESPONSE_BYTES: Final = 4 * 2**20 - 2**16
"""Of results, rejections and acks in one response: with the rest below the 4 MiB that gRPC clients take when
nobody told them otherwise."""

InferContext: TypeAlias = "grpc.aio.ServicerContext[InferRequest, InferResponse]"
StreamContext: TypeAlias = "grpc.aio.ServicerContext[StreamRequest, StreamResponse]"


class IngestServicer(FeatureIngestServicer):
    """Frames in, committed results out."""

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: CloudMetrics,
        devices: DeviceLimits,
        stopping: asyncio.Event,
        opened: StreamOpened,
    ) -> None:
        """opened: what every stream begins with."""
        self._pipeline = pipeline
        self._metrics = metrics
        self._devices = devices
        self._stopping = stopping
        self._opened = opened

    async def Infer(self, request: InferRequest, context: InferContext) -> InferResponse:
        """See ingest.proto."""
        async with refusing(context, self._metrics):
            frame = incoming_frame(request.frame)
            self._devices.admit(frame.key.device)
            committed = await self._pipeline.infer(frame, context.time_remaining())
            return InferResponse(result=committed.result, repeated_frame=committed.repeated)

    async def Stream(
        self, requests: AsyncIterable[StreamRequest], context: StreamContext
    ) -> AsyncIterator[StreamResponse]:
        """See ingest.proto."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._metrics.streams.track_inprogress())
            await stack.enter_async_context(refusing(context, self._metrics))
            place = stack.enter_context(self._devices.stream())
            session = _StreamSession(
                self._pipeline, self._metrics, self._devices, place, self._opened.max_in_flight
            )
            async with session.reading(requests, self._stopping):
                await context.send_initial_metadata(((TIME_KEY, str(time.time_ns())),))
                yield StreamResponse(opened=self._opened)
                async for response in session.responses():
                    yield response
                if session.last_refusal is not None:
                    await end_call(context, session.last_refusal)
                if self._stopping.is_set():
                    raise ServiceStopping(
                        "the service is stopping; connect again and send what was not acked"
                    )


@dataclass(frozen=True)
class _InFlight:
    """A frame as sent, and the task that answers it."""

    frame: Frame
    answer: asyncio.Task[Answer]


@dataclass(frozen=True)
class _Settled:
    """A frame as sent, and what became of it."""

    frame: Frame
    outcome: Committed | CallRefusal

    def message(self) -> TaskResult | Rejection:
        """What the edge is told."""
        if isinstance(self.outcome, Committed):
            return self.outcome.result
        return Rejection(
            key=self.frame.key,
            code=self.outcome.code.value[0],
            error=self.outcome.error,
            message=self.outcome.message,
            settled=self.outcome.settled,
        )


class _StreamSession:
    """Frames are answered concurrently, settled in the order they came.

    `last_refusal` is set when a refusal that does not settle its frame ended the session; nothing behind that
    frame was committed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: CloudMetrics,
        devices: DeviceLimits,
        place: StreamPlace,
        max_in_flight: int,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._devices = devices
        self._place = place
        self._in_flight: deque[_InFlight] = deque()
        self._frame_places = asyncio.Semaphore(max_in_flight)
        self._news = asyncio.Event()  # a frame came, or none will any more
        self._all_read = False
        self.last_refusal: CallRefusal | None = None

    @contextlib.asynccontextmanager
    async def reading(
        self, requests: AsyncIterable[StreamRequest], stopping: asyncio.Event
    ) -> AsyncIterator[None]:
        """Read frames while the body runs, until the caller half-closes or `stopping` is set."""
        reader = asyncio.create_task(self._read(requests))
        stopper = asyncio.create_task(stopping.wait())
        stopper.add_done_callback(lambda _: reader.cancel())
        reader.add_done_callback(self._end_reading)
        try:
            yield
            if reader.done() and not reader.cancelled():
                reader.result()
        finally:
            reader.cancel()
            stopper.cancel()
            await asyncio.wait([reader, stopper])
            await self._drop_in_flight()

    async def responses(self) -> AsyncIterator[StreamResponse]:
        """At least one response per group of settled frames, until all are settled or one cannot be."""
        while self.last_refusal is None and (group := await self._next_group()):
            settled = await self._settle(group)
            for _ in group:
                self._frame_places.release()
            for part in _parts(settled):
                yield _response(part)

    async def _read(self, requests: AsyncIterable[StreamRequest]) -> None:
        count = 0
        async for request in requests:
            _check_place(request, count)
            count += 1
            await self._frame_places.acquire()
            await self._devices.pace(request.frame.key.device)
            answer = asyncio.create_task(self._answer(request.frame))
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # none goes unread
            self._in_flight.append(_InFlight(request.frame, answer))
            self._news.set()

    def _end_reading(self, _: asyncio.Task[None]) -> None:
        self._all_read = True
        self._news.set()

    async def _answer(self, frame: Frame) -> Answer:
        incoming = incoming_frame(frame)
        self._place.admit(incoming.key.device)
        return await self._pipeline.answer(incoming, wait_for_place=True)

    async def _next_group(self) -> list[_InFlight]:
        """The frames at the front that are answered; waits for the first; empty when no more will come."""
        while not self._in_flight and not self._all_read:
            self._news.clear()
            await self._news.wait()
        if self._in_flight:
            await asyncio.wait([self._in_flight[0].answer])
        group: list[_InFlight] = []
        while self._in_flight and self._in_flight[0].answer.done() and len(group) < MAX_SETTLED_TOGETHER:
            group.append(self._in_flight.popleft())
        return group

    async def _settle(self, group: list[_InFlight]) -> list[_Settled]:
        """Commit the group up to the first frame that is refused without being settled, which ends the
        session."""
        answered: list[tuple[Frame, Answer | CallRefusal]] = []
        for entry in group:
            error = entry.answer.exception()
            refusal = refusal_for(error) if isinstance(error, Exception) else None
            answered.append((entry.frame, refusal or entry.answer.result()))
            if refusal is not None and not refusal.settled:
                self.last_refusal = refusal
                break
        answers = [answer for _, answer in answered if isinstance(answer, Answer)]
        outcomes = iter(await self._pipeline.commit(answers))
        settled: list[_Settled] = []
        for frame, answer in answered:
            outcome = answer if isinstance(answer, CallRefusal) else next(outcomes)
            if isinstance(outcome, Exception):
                outcome = refusal_for(outcome)
            if isinstance(outcome, CallRefusal):
                self._metrics.rejected.labels(outcome.reason).inc()
            settled.append(_Settled(frame, outcome))
        return settled

    async def _drop_in_flight(self) -> None:
        """Cancel what was not settled; the edge sends it again."""
        for entry in self._in_flight:
            entry.answer.cancel()
        await asyncio.gather(*(entry.answer for entry in self._in_flight), return_exceptions=True)


def _check_place(request: StreamRequest, count: int) -> None:
    """FrameMissing: a message between this one and the `count` before it was lost, or what it held was."""
    if not request.HasField("frame") or (request.HasField("index") and request.index != count):
        raise FrameMissing(
            f"message {count} of the stream came without a frame, or with index {request.index}: the link "
            "lost something; connect again, send everything after the last ack, and use TLS"
        )


def _parts(settled: list[_Settled]) -> Iterator[list[_Settled]]:
    """The frames in order, in as few parts as MAX_RESPONSE_BYTES allows."""
    part: list[_Settled] = []
    num_bytes = 0
    for entry in settled:
        size = entry.message().ByteSize() + entry.frame.key.ByteSize()  # the key for its ack
        if part and num_bytes + size > MAX_RESPONSE_BYTES:
            yield part
            part, num_bytes = [], 0
        part.append(entry)
        num_bytes += size
    yield part


def _response(part: list[_Settled]) -> StreamResponse:
    response = StreamResponse()
    acks: dict[tuple[str, str], FrameKey] = {}
    for entry in part:
        message = entry.message()
        if isinstance(message, TaskResult):
            response.results.append(message)
        else:
            response.rejections.append(message)
            if not message.settled:
                break
        acks[entry.frame.key.device, entry.frame.key.camera] = entry.frame.key
    response.acks.extend(acks.values())
    response.crc32c = response_crc(response)
    return response

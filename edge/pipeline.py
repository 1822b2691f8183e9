"""A frame's way through the edge: picture -> canvas -> bitstream -> cloud -> report.

Decoding and encoding run in one worker thread, so each session has one user and sequence numbers rise in the
order of encoding; waiting for the cloud is asynchronous, so the next frame is encoded meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from edge.frames import RecentFrames
from edge.metrics import EdgeMetrics
from edge.report import CloudReport, FrameReport, PromptReport, Readiness, Timings
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import CloudAnswer, OutgoingFrame, Uplink
from edge.worker import Worker
from splitcodec.codec import EncodedFrame
from splitcodec.errors import (
    CloudRefused,
    InvalidRequest,
    QueueFull,
    RateOutOfRange,
    SettingsError,
    SplitcodecError,
    UnknownTask,
)
from splitcodec.frame import RGB, Canvas, read_canvas
from splitcodec.overlay import overlay_jpeg
from splitcodec.packs import InputConvention
from splitcodec.prompts import Prompt, PromptStore

MAX_OVERLAYS: int = 4  # overlays drawn or waiting; they are for people, frames come first


class Encoder(Protocol):
    """The face of splitcodec.codec.FeatureEncoder that the edge uses."""

    def compress(
        self, canvas: RGB, prompt: Prompt, rate: float, source_size: tuple[int, int]
    ) -> EncodedFrame:
        """canvas uint8 [H, W, 3]; source_size (height, width) in pixels."""
        ...


@dataclass(frozen=True)
class TaskInput:
    """What the edge needs to know of a task: how its canvas is made, and its labels."""

    convention: InputConvention
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Codec:
    """What the edge encodes with. codec_digest: hex SHA-256; max_rate: K - 1; engine: of the float graphs."""

    pack: str
    codec_digest: str
    engine: str
    max_rate: float
    tasks: Mapping[str, TaskInput]
    encoder: Encoder
    prompts: PromptStore


@dataclass(frozen=True)
class FrameOrder:
    """A frame as it was asked for, checked; capture_time_nanos: unix time."""

    camera: str
    task: str
    rate: float
    capture_time_nanos: int


@dataclass(frozen=True)
class _Outgoing:
    frame: OutgoingFrame
    canvas: Canvas
    encoded: EncodedFrame
    prompt_digest: bytes
    stage_seconds: dict[str, float]


class EdgePipeline:
    """Takes pictures, answers with reports. Its methods belong to one event loop."""

    def __init__(
        self, settings: EdgeSettings, codec: Codec, uplink: Uplink, state: EdgeState, metrics: EdgeMetrics
    ) -> None:
        """SettingsError: the default task or rate is not one of the pack's."""
        if settings.task not in codec.tasks:
            raise SettingsError(
                f"task {settings.task!r} is not in pack {codec.pack}; it has {sorted(codec.tasks)}"
            )
        self._default_rate = codec.max_rate / 2 if settings.rate is None else settings.rate
        if self._default_rate > codec.max_rate:
            raise SettingsError(
                f"rate {settings.rate} is above {codec.max_rate}, the highest of pack {codec.pack}"
            )
        self.settings = settings
        self.metrics = metrics
        self._codec = codec
        self._uplink = uplink
        self._state = state
        self._frames = RecentFrames(settings.kept_frames, settings.kept_picture_bytes)
        self._encoding = Worker("encode", settings.max_pending_frames)
        self._drawing = Worker("overlay", MAX_OVERLAYS)
        self._cameras: set[str] = set()
        self._pending = 0
        for prompt in self.prompts():
            metrics.prompt_info.labels(prompt.task, prompt.prompt_digest).set(1)

    def order(self, camera: str, task: str | None, rate: float | None) -> FrameOrder:
        """Check what a client asks for, before its picture is read; None takes the default of the settings.

        UnknownTask, RateOutOfRange, InvalidRequest (one camera too many).
        """
        task = self.settings.task if task is None else task
        rate = self._default_rate if rate is None else rate
        if task not in self._codec.tasks:
            raise UnknownTask(
                f"task {task[:64]!r} is not served here; ask for one of {sorted(self._codec.tasks)}"
            )
        if not 0 <= rate <= self._codec.max_rate:
            raise RateOutOfRange(
                f"rate is {rate}, it must be from 0 to {self._codec.max_rate}; choose one inside"
            )
        if camera not in self._cameras and len(self._cameras) >= self.settings.max_cameras:
            raise InvalidRequest(
                f"camera {camera!r} would be one more than the {self.settings.max_cameras} served here; "
                "reuse a name or raise SPLITCODEC_EDGE_MAX_CAMERAS"
            )
        self._cameras.add(camera)
        return FrameOrder(camera, task, rate, time.time_ns())

    @contextmanager
    def accounted(self, order: FrameOrder) -> Iterator[None]:
        """Hold a place for a frame in work, and count how the frame ended. QueueFull: no place is free."""
        outcome = "InternalError"
        try:
            with self._place():
                yield
            outcome = "ok"
        except SplitcodecError as error:
            outcome = type(error).__name__
            raise
        finally:
            self.metrics.frames.labels(order.camera, order.task, outcome).inc()

    async def process(self, order: FrameOrder, picture: bytes, content_type: str | None) -> FrameReport:
        """Encode a picture file, send it, keep the report. FrameError, CloudUnavailable, CloudRefused."""
        started = time.perf_counter()
        outgoing = await self._encoding.run(lambda: self._encode(order, picture, content_type))
        sent = time.perf_counter()
        answer = await self._uplink.infer(outgoing.frame)
        ended = time.perf_counter()
        if answer.prompt_digest != outgoing.prompt_digest:
            raise CloudRefused(
                f"the cloud decoded with prompt {answer.prompt_digest.hex()}, this frame was made with "
                f"{outgoing.prompt_digest.hex()}; deploy the same pack on both sides"
            )
        timings = Timings(outgoing.stage_seconds, dict(answer.stage_seconds), ended - sent, ended - started)
        report = self._report(order, outgoing, answer, timings)
        self._frames.add(report, picture)
        self._observe(report, len(picture))
        return report

    def report(self, frame_id: str) -> FrameReport:
        """A recent report; ResultNotFound."""
        return self._frames.report(frame_id)

    async def overlay(self, frame_id: str) -> bytes:
        """The picture of a recent frame with its detections drawn on it: JPEG. ResultNotFound, QueueFull."""
        report, picture = self._frames.report(frame_id), self._frames.picture(frame_id)
        limits = self.settings.picture_limits
        return await self._drawing.run(lambda: overlay_jpeg(picture, report.detections, limits))

    def prompts(self) -> list[PromptReport]:
        """Every live prompt."""
        codec = self._codec
        return [
            PromptReport(
                task=status.task,
                prompt_digest=status.digest[:16],
                codec_digest=codec.codec_digest[:16],
                active=status.active,
                max_rate=codec.max_rate,
                default_rate=self._default_rate,
                network_height=codec.tasks[status.task].convention.height,
                network_width=codec.tasks[status.task].convention.width,
                labels=codec.tasks[status.task].labels,
            )
            for status in codec.prompts.list()
        ]

    def readiness(self) -> Readiness:
        """What this edge serves, and how it stands with the cloud."""
        codec = self._codec
        cloud = CloudReport(self.settings.cloud_target, self._uplink.state())
        tasks = tuple(sorted(codec.tasks))
        return Readiness(
            True, self._state.device, codec.pack, codec.codec_digest[:16], codec.engine, tasks, cloud
        )

    def close(self) -> None:
        """Wait for the running jobs and stop the threads."""
        self._encoding.close()
        self._drawing.close()

    @contextmanager
    def _place(self) -> Iterator[None]:
        limit = self.settings.max_pending_frames
        if self._pending >= limit:
            raise QueueFull(
                f"{self._pending} frames are in work, the limit is {limit}; send slower or again later"
            )
        self._pending += 1
        self.metrics.pending.set(self._pending)
        try:
            yield
        finally:
            self._pending -= 1
            self.metrics.pending.set(self._pending)

    def _encode(self, order: FrameOrder, picture: bytes, content_type: str | None) -> _Outgoing:
        """Runs in the worker thread."""
        started = time.perf_counter()
        convention = self._codec.tasks[order.task].convention
        canvas = read_canvas(picture, content_type, convention, self.settings.picture_limits)
        decoded = time.perf_counter()
        source_size = (canvas.source_height, canvas.source_width)
        with self._codec.prompts.lease(order.task) as prompt:
            encoded = self._codec.encoder.compress(canvas.pixels, prompt, order.rate, source_size)
        frame = OutgoingFrame(
            device=self._state.device,
            camera=order.camera,
            seq=self._state.next_seq(order.camera),
            task=order.task,
            capture_time_nanos=order.capture_time_nanos,
            bitstream=encoded.data,
        )
        stages = {"decode": decoded - started, **encoded.stage_seconds}
        return _Outgoing(frame, canvas, encoded, prompt.wire_digest, stages)

    def _report(
        self, order: FrameOrder, outgoing: _Outgoing, answer: CloudAnswer, timings: Timings
    ) -> FrameReport:
        frame, canvas, encoded = outgoing.frame, outgoing.canvas, outgoing.encoded
        return FrameReport(
            id=f"{frame.camera}-{frame.seq}",
            device=frame.device,
            camera=frame.camera,
            seq=frame.seq,
            task=frame.task,
            capture_time=order.capture_time_nanos / 1e9,
            detections=answer.detections,
            num_bytes=encoded.num_bytes,
            bpp=8 * encoded.num_bytes / (canvas.source_height * canvas.source_width),
            rate=encoded.rate,
            prompt_digest=outgoing.prompt_digest.hex(),
            codec_digest=self._codec.codec_digest[:16],
            source_height=canvas.source_height,
            source_width=canvas.source_width,
            network_height=canvas.pixels.shape[0],
            network_width=canvas.pixels.shape[1],
            timings=timings,
        )

    def _observe(self, report: FrameReport, picture_bytes: int) -> None:
        metrics, labels = self.metrics, (report.camera, report.task)
        metrics.bitstream_bytes.labels(*labels).inc(report.num_bytes)
        metrics.picture_bytes.labels(*labels).inc(picture_bytes)
        metrics.rate_point.labels(*labels).set(report.rate)
        metrics.bits_per_pixel.labels(report.task).observe(report.bpp)
        metrics.observe_stages({**report.timings.edge, "send": report.timings.round_trip})

"""A frame's way through the edge: picture -> canvas -> bitstream -> cloud or disk -> report.

Reading and encoding are edge.coding; waiting for cloud and disk is asynchronous, so the next frame is encoded
meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from edge.cameras import CameraChoices
from edge.codec import Codec
from edge.coding import FrameCoder
from edge.dead_letters import Quarantine
from edge.frames import RecentFrames
from edge.handover import Handover
from edge.history import History
from edge.links import Links, open_links
from edge.metrics import EdgeMetrics
from edge.news import News
from edge.orders import FrameOrder, Orders
from edge.places import Places
from edge.posts import Post
from edge.prompts import EdgePrompts
from edge.report import CloudReport, FrameReport, FrameStatus, FrameSummary, Readiness, SpoolReport, Timings
from edge.reporting import CodedFrame, frame_id, late_report, split_frame_id, spooled_status, waited_report
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.traces import FrameTraces
from edge.uplink import CloudAnswer, Uplink
from edge.uploads import Uploads
from edge.worker import Worker
from splitcodec.errors import ClientGone, CloudRefused, ResultNotFound, SplitcodecError
from splitcodec.overlay import overlay_jpeg
from splitcodec.packs.shelf import PromptShelf
from splitcodec.prompt_probation import FirstFrames
from splitcodec.service_metrics import exemplar
from splitcodec.signing.trust import TrustStore
from splitcodec.tracing import Tracing

LOOKED_S: float = 10.0  # so long after a look, frames are compared with JPEG
SETTLED: str = "it was answered before, and its result is not kept here any more; ask the cloud"
MAX_OVERLAYS: int = 4  # overlays drawn or waiting; they are for people, frames come first


@dataclass
class CountedOutcome:
    """How a frame ended, for the metrics."""

    outcome: str = "ok"


class EdgePipeline:
    """Takes pictures, answers with reports. Its methods belong to one event loop."""

    def __init__(
        self,
        settings: EdgeSettings,
        codec: Codec,
        state: EdgeState,
        metrics: EdgeMetrics,
        links: Links,
        orders: Orders,
        prompts: EdgePrompts,
        tracing: Tracing,
    ) -> None:
        """orders: what frames are to become; prompts: those that come while the edge runs."""
        self._traces = FrameTraces(tracing)
        self.settings = settings
        self.metrics = metrics
        self.orders = orders
        self.prompts = prompts
        self._codec = codec
        self._state = state
        self._links = links
        self._outbox = links.outbox
        self._frames = RecentFrames(settings.kept_frames, settings.kept_picture_bytes)
        self.history = History()
        self.quarantine = Quarantine(links.outbox)
        self._looked_at = -LOOKED_S
        self._drained_by = 0.0  # of the monotonic clock
        first_frames = FirstFrames(prompts.probation, prompts.give_up)
        self._coder = FrameCoder(settings, codec, state, orders, links, first_frames)
        self._handover = Handover(settings, codec, links, self._coder, self._is_looked_at)
        self._drawing = Worker("overlay", MAX_OVERLAYS)
        self._places = Places(settings.max_pending_frames, metrics.pending)
        self.uploads = Uploads(settings.max_upload_bytes)
        links.replies.on_answer = self._answered_late

    @property
    def news(self) -> News:
        """Tells of frames that got their result."""
        return self._frames.news

    def order(self, camera: str, task: str | None, rate: float | None) -> FrameOrder:
        """See Orders.order."""
        return self.orders.order(camera, task, rate)

    @contextmanager
    def count_outcome(self, order: FrameOrder) -> Iterator[CountedOutcome]:
        """Count how a frame ended: `gone` if its client, or whoever else waited for it, went away before."""
        counted, outcome = CountedOutcome(), "InternalError"
        try:
            yield counted
            outcome = counted.outcome
        except (ClientGone, asyncio.CancelledError):
            outcome = "gone"
            raise
        except SplitcodecError as error:
            outcome = type(error).__name__
            raise
        finally:
            camera = order.camera if order.camera in self.orders.served else ""
            self.metrics.frames.labels(camera, order.task, outcome).inc()

    async def process(
        self,
        order: FrameOrder,
        picture: bytes,
        content_type: str | None,
        *,
        wait_s: float | None = None,
        post: Post | None = None,
    ) -> FrameReport | FrameStatus:
        """Encode a picture file and send it: its report, or, where there is none within wait_s seconds, the
        state of a frame that is safe on disk. wait_s: by default deadline_s; 0 waits for the disk alone;
        post: the same frame if its key was given before.

        QueueFull: no place is free; FrameError, CloudRefused, FrameConflict (the key); SpoolFull,
        SpoolUnavailable: there is no answer, and the frame was not kept.
        """
        with self._places.take():
            patience = self.settings.deadline_s if wait_s is None else wait_s

            def make() -> Awaitable[FrameReport | FrameStatus]:
                return self._process(order, picture, content_type, patience, post)

            return await (make() if post is None else self._links.posts.once(post, make, self._repeated))

    async def _process(
        self,
        order: FrameOrder,
        picture: bytes,
        content_type: str | None,
        wait_s: float,
        post: Post | None,
    ) -> FrameReport | FrameStatus:
        started = time.perf_counter()
        coded, entry = await self._handover.take(order, picture, content_type, wait_s, post)
        sent = time.perf_counter()
        said = await self._links.sender.answer(entry, wait_s)
        self._observe(coded, len(picture))
        self._frames.add_picture(frame_id(order.camera, coded.frame.seq), picture, coded.sizes(len(picture)))
        if isinstance(said, str):
            self._traces.frame(coded, "spooled")
            return spooled_status(coded.frame, said)
        ended = time.perf_counter()
        timings = Timings(coded.stage_seconds, dict(said.stage_seconds), ended - sent, ended - started)
        return self._answered(coded, said, timings)

    async def find(self, name: str) -> FrameReport | FrameStatus:
        """A recent report, or what is known of a frame that has none; ResultNotFound, SpoolUnavailable."""
        try:
            return self._frames.report(name)
        except ResultNotFound:
            place = split_frame_id(name)
            fate = None if place is None else await self._outbox.fate(*place)
            if place is None or fate is None:
                raise
            return FrameStatus(name, fate.device, *place, fate.state, fate.reason)

    async def _repeated(self, name: str) -> FrameReport | FrameStatus:
        """What became of a frame that is posted again; of one this edge does not know any more too."""
        try:
            return await self.find(name)
        except ResultNotFound:
            camera, seq = split_frame_id(name) or ("", 0)
            return FrameStatus(name, self._state.device, camera, seq, "settled", SETTLED)

    def recent(self, limit: int, camera: str | None) -> list[FrameSummary]:
        """The last frames with a result, newest first; camera None: of all."""
        self._looked_at = time.monotonic()
        return self._frames.recent(limit, camera)

    def report(self, frame_id: str) -> FrameReport:
        """A recent report; ResultNotFound."""
        return self._frames.report(frame_id)

    async def overlay(self, frame_id: str) -> bytes:
        """The picture of a recent frame with its result drawn on it: JPEG. ResultNotFound, QueueFull."""
        report, picture = self._frames.report(frame_id), self._frames.picture(frame_id)
        limits = self.settings.picture_limits
        return await self._drawing.run(lambda: overlay_jpeg(picture, report.answer, limits))

    def readiness(self) -> Readiness:
        """What this edge serves, and how it stands with the cloud."""
        codec = self._codec
        outbox, spool = self._outbox, self._outbox.spool
        uplink, target = self._links.uplink, self.settings.cloud_target
        cloud = CloudReport(
            target, uplink.state(), outbox.why_away, outbox.last_error, uplink.clock_offset_s()
        )
        tasks = tuple(sorted(codec.tasks))
        return Readiness(
            ready=not self._places.stopping,
            device=self._state.device,
            pack=codec.pack,
            codec_digest=codec.codec_digest[:16],
            engine=codec.engine,
            tasks=tasks,
            cloud=cloud,
            spool=SpoolReport(spool.depth.frames, spool.depth.num_bytes, spool.oldest_age(), spool.note),
        )

    async def drain(self, timeout_s: float) -> None:
        """Not ready from here on, no new frames, none that still arrives; until the cloud has what it can
        get within timeout_s.

        Afterwards nobody waits for the cloud any longer: what it does not have is on disk.
        """
        self._drained_by = time.monotonic() + timeout_s
        self._places.stopping = True
        self.uploads.stop()
        self.news.close()
        await self._links.delivery.drain(timeout_s)
        self._outbox.give_no_hope("the edge is stopping")

    def close(self) -> None:
        """Stop the threads within what is left of the drain's time; see Worker.close."""
        for worker in (self.prompts, self._coder, self._drawing):
            worker.close(self._drained_by - time.monotonic())

    def _is_looked_at(self) -> bool:
        return time.monotonic() - self._looked_at < LOOKED_S

    def _answered(self, coded: CodedFrame, answer: CloudAnswer, timings: Timings) -> FrameReport:
        if answer.prompt_digest != coded.prompt_digest:
            raise CloudRefused(
                f"the cloud decoded with prompt {answer.prompt_digest.hex()}, this frame was made with "
                f"{coded.prompt_digest.hex()}; deploy the same pack on both sides"
            )
        report = waited_report(coded, answer, timings)
        self._frames.add(report)
        self.history.answered(report.camera, timings.total)
        self.metrics.observe_stages({"send": timings.round_trip})
        traced = exemplar(self._traces.frame(coded, "ok"))
        self.metrics.result.labels(report.task).observe(timings.total, traced)
        return report

    def _answered_late(self, answer: CloudAnswer, seconds: float) -> None:
        report = late_report(answer, seconds)
        self._frames.add(report)
        self.history.answered(report.camera, report.timings.total)
        self.metrics.observe_stages({"send": seconds})
        self._traces.late(answer, seconds)

    def _observe(self, coded: CodedFrame, picture_bytes: int) -> None:
        metrics, frame, num_bytes = self.metrics, coded.frame, coded.encoded.num_bytes
        labels = (frame.camera, frame.task)
        self.history.coded(frame.camera, num_bytes, picture_bytes)
        metrics.bitstream_bytes.labels(*labels).inc(num_bytes)
        metrics.picture_bytes.labels(*labels).inc(picture_bytes)
        metrics.bytes_per_pixel.labels(frame.task).observe(coded.bpp / 8)
        metrics.frame_bytes.labels(frame.task).observe(num_bytes)
        metrics.observe_stages(coded.stage_seconds)
        metrics.observe_importance(*labels, coded.encoded.importance)


@asynccontextmanager
async def open_pipeline(
    settings: EdgeSettings,
    codec: Codec,
    uplink: Uplink,
    state: EdgeState,
    metrics: EdgeMetrics,
    trust: TrustStore | None = None,
    tracing: Tracing | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[EdgePipeline]:
    """A pipeline with its prompts back, its spool open and its delivery running. SettingsError.

    trust: whose signatures count for prompts that come; None where no signature is asked for. clock: seconds,
    for the silence of cameras.
    """
    shelf = PromptShelf(settings.state_dir / "prompts")
    choices = CameraChoices(settings.state_dir)
    prompts = EdgePrompts(codec, shelf, metrics, settings.kept_prompts, trust, choices.pinned)
    await asyncio.to_thread(prompts.restore)
    async with open_links(settings, prompts.points, codec.max_rate, uplink, state, metrics) as links:
        orders = Orders(settings, codec, choices, links, metrics, clock)
        pipeline = EdgePipeline(settings, codec, state, metrics, links, orders, prompts, tracing or Tracing())
        try:
            yield pipeline
        finally:
            pipeline.close()

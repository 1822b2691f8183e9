"""One camera, read for as long as the edge runs: reader processes one after another, newest picture first.

Live pictures that come while others are in work replace each other, so what is sent is never old; pictures of
a folder wait for their turn, and none is left out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Final

from edge.metrics import EdgeMetrics
from edge.sources.address import Source
from edge.sources.messages import Message, ReaderOrder, Said
from edge.sources.process import SourceFailed, reader_process
from splitcodec.background import keep_going

log = logging.getLogger(__name__)

PICTURES: Final = "pictures"  # the name of sending them in the counter of background failures
AT_ONCE: Final = 3  # pictures of one camera in work, so that a far cloud does not limit how many a second
PAUSE_S: Final = (0.5, 30.0)
"""First and longest pause before a reader is started again."""
START_S: Final = 10.0  # more patience until the first message: the process has to start
Take = Callable[[str, Message], Coroutine[None, None, None]]
"""(camera, picture): brings one picture through the pipeline; raises nothing but cancellation."""


class CameraReader:
    """`run` reads until it is cancelled."""

    def __init__(self, source: Source, order: ReaderOrder, take: Take, metrics: EdgeMetrics) -> None:
        """order.timeout_s: how long the camera may be silent before its reader is killed."""
        self._source = source
        self._order = order
        self._take = take
        self._metrics = metrics
        self._newest: Message | None = None
        self._came = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._working: set[asyncio.Task[None]] = set()
        self._pictures = 0
        self._pause_s = 0.0
        self.pid: int | None = None

    async def run(self) -> None:
        """Read; start again after every failure, with pauses that double until pictures come."""
        failures = self._metrics.background_failures
        sending = asyncio.create_task(keep_going(PICTURES, self._send_newest, PAUSE_S[0], failures))
        try:
            await keep_going("camera", self._turn, 0, failures)
        finally:
            self._metrics.source_up.labels(self._source.camera).set(0)
            for task in (sending, *self._working):
                task.cancel()
            await asyncio.gather(sending, *self._working, return_exceptions=True)

    async def _turn(self) -> None:
        """The pause that is due, and one reader's life."""
        await asyncio.sleep(random.uniform(self._pause_s / 2, self._pause_s))
        before, name = self._pictures, f"camera {self._source.camera} ({self._source.shown})"
        try:
            reason = await self._read_once()
        except Exception:
            log.error("%s: reading it failed", name)
            raise
        finally:
            longer = min(max(2 * self._pause_s, PAUSE_S[0]), PAUSE_S[1])
            self._pause_s = PAUSE_S[0] if self._pictures > before else longer
        log.warning("%s: %s; again in %.1f s", name, reason, self._pause_s)

    async def _read_once(self) -> str:
        """One reader's life; why it ended."""
        camera, metrics = self._source.camera, self._metrics
        try:
            async with reader_process(self._order) as reader:
                self.pid = reader.pid
                patience = self._order.timeout_s + START_S
                while True:
                    message = await reader.next(patience)
                    patience = self._order.timeout_s
                    metrics.source_up.labels(camera).set(1)
                    if message.said is Said.PICTURE:
                        await self._came_in(message)
                    elif message.said is Said.UNCHANGED:
                        self._pictures += 1
                        metrics.source_frames.labels(camera, "unchanged").inc()
        except SourceFailed as failure:
            metrics.source_restarts.labels(camera, "stalled" if failure.stalled else "failed").inc()
            return str(failure)
        except OSError as error:
            metrics.source_restarts.labels(camera, "failed").inc()
            return f"the reader cannot be started ({error.strerror})"
        finally:
            self.pid = None
            metrics.source_up.labels(camera).set(0)

    async def _came_in(self, picture: Message) -> None:
        self._pictures += 1
        if self._source.kind == "folder":
            await self._places.acquire()
            self._start(picture)
            return
        if self._newest is not None:
            self._metrics.source_frames.labels(self._source.camera, "passed_over").inc()
        self._newest = picture
        self._came.set()

    async def _send_newest(self) -> None:
        while True:
            await self._came.wait()
            await self._places.acquire()
            self._came.clear()
            picture, self._newest = self._newest, None
            if picture is not None:
                self._start(picture)
            else:
                self._places.release()

    def _start(self, picture: Message) -> None:
        """The caller holds a place."""
        self._metrics.source_frames.labels(self._source.camera, "taken").inc()
        task = asyncio.create_task(self._take(self._source.camera, picture))
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._places.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("camera %s: a picture failed", self._source.camera, exc_info=task.exception())
            self._metrics.background_failures.labels(PICTURES).inc()

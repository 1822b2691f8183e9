"""The result store for the event loop: reads in threads, those of ingest apart from those of readers; commits
grouped in one thread; readers woken on change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from cloud.database import Filter, Page
from cloud.lane_heads import LaneHeads
from cloud.messages import FrameKey
from cloud.metrics import CloudMetrics
from cloud.reading import ReadThreads
from cloud.settings import MAX_RETENTION_DAYS
from cloud.store import Committed, Outcome, ResultStore
from splitcodec.background import keep_going
from splitcodec.errors import ServiceStopping
from splitcodec.threads import ended
from splitcodec.wire.v1.results_pb2 import TaskResult

Value = TypeVar("Value")

READ_THREADS: Final = 4
RETENTION: Final = "retention"  # its name in the counter of background failures
SECONDS_PER_DAY: Final = 86_400
STOP_PATIENCE_S: Final = 10.0  # for a disk to take what is queued when the service ends
Outcomes = list[Outcome]


class ResultLog:
    """Everything the servicers do with results. StoreUnavailable from any method when the disk fails."""

    def __init__(self, store: ResultStore, metrics: CloudMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._readers = ReadThreads(store, READ_THREADS, "results-read")
        self._look_ups = ReadThreads(store, 1, "results-look-up")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="results-write")
        self._queued: list[tuple[list[TaskResult], asyncio.Future[Outcomes]]] = []
        self._flush: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._heads = LaneHeads()
        self._stopping = False
        self.newest = store.newest()

    async def find(self, key: FrameKey) -> TaskResult | None:
        """The result of that frame, or None."""
        return await self._readers.run(lambda: self._store.find(key))

    async def look_up(self, key: FrameKey) -> TaskResult | None:
        """See ResultStore.look_up; waits for no reader, however many there are, and for nothing at all if the
        frame is above every seq of its camera."""
        lane = (key.device, key.camera)
        head = self._heads.get(lane)
        if head is None:
            head = await self._look_ups.run(lambda: self._store.highest_seq(*lane))
            self._heads.learn(lane, head)
        if key.seq > head:
            return None
        return await self._look_ups.run(lambda: self._store.look_up(key))

    async def read(self, chosen: Filter, after: int, limit: int, *, newest_first: bool = False) -> Page:
        """See ResultStore.read."""
        return await self._readers.run(
            lambda: self._store.read(chosen, after, limit, newest_first=newest_first)
        )

    async def tail(self, chosen: Filter, after: int, limit: int) -> Page:
        """See ResultStore.tail."""
        return await self._readers.run(lambda: self._store.tail(chosen, after, limit))

    async def check_gap(self, chosen: Filter, after: int) -> None:
        """See ResultStore.check_gap."""
        await self._readers.run(lambda: self._store.check_gap(chosen, after))

    async def oldest_position(self, chosen: Filter) -> int:
        """See ResultStore.oldest_position."""
        return await self._readers.run(lambda: self._store.oldest_position(chosen))

    async def commit(self, results: Sequence[TaskResult]) -> Outcomes:
        """Commit in order; returns once it is on disk. Calls that wait at the same time share one
        transaction."""
        outcomes: asyncio.Future[Outcomes] = asyncio.get_running_loop().create_future()
        self._queued.append((list(results), outcomes))
        if self._flush is None:
            self._flush = asyncio.create_task(self._flush_queued())
        return await outcomes

    async def wait_newer(self, position: int) -> None:
        """Until there is a result beyond `position`. ServiceStopping when the service ends."""
        while self.newest <= position:
            self.check_running()
            await self._changed.wait()

    def check_running(self) -> None:
        """ServiceStopping once `end_readers` was called."""
        if self._stopping:
            raise ServiceStopping("the service is stopping; connect again and resume from your last cursor")

    def end_readers(self) -> None:
        """Wake everyone who waits for results; they end with ServiceStopping."""
        self._stopping = True
        self._wake()

    async def retire(self, max_age_days: float, max_bytes: int) -> int:
        """Delete the oldest results until both limits hold; how many went."""
        oldest = max(0, time.time_ns() - round(min(max_age_days, MAX_RETENTION_DAYS) * SECONDS_PER_DAY * 1e9))
        total = 0
        while gone := await self._write(lambda: self._store.retire_some(oldest, max_bytes)):
            total += gone
        size = await self._write(self._store.size)
        self._metrics.retired.inc(total)
        self._metrics.stored.set(size.results)
        self._metrics.stored_bytes.set(size.num_bytes)
        return total

    async def retire_for_ever(self, max_age_days: float, max_bytes: int, interval_s: float) -> None:
        """Hold the limits, looking every interval_s seconds, until cancelled."""
        await keep_going(
            RETENTION,
            lambda: self.retire(max_age_days, max_bytes),
            interval_s,
            self._metrics.background_failures,
        )

    async def stop(self, patience_s: float = STOP_PATIENCE_S) -> None:
        """Commit what is queued, then close the store.

        A disk that hangs for patience_s seconds is left alone: nothing of what waits for it was
        acknowledged.
        """
        if self._flush is not None:
            await asyncio.wait([self._flush], timeout=patience_s)
        if await asyncio.to_thread(self._end_threads, 0.0 if self._flush else patience_s):
            self._store.close()
        for _, answer in self._queued:
            answer.cancel()

    def _end_threads(self, patience_s: float) -> bool:
        """Whether every thread has ended; one that hangs may be using a connection."""
        end = time.monotonic() + patience_s
        pools = (self._readers.threads, self._look_ups.threads, self._writer)
        return all([ended(threads, end - time.monotonic()) for threads in pools])

    async def _flush_queued(self) -> None:
        try:
            while self._queued:
                group, self._queued = self._queued, []
                await self._flush_group(group)
        finally:
            self._flush = None

    async def _flush_group(self, group: list[tuple[list[TaskResult], asyncio.Future[Outcomes]]]) -> None:
        results = [result for part, _ in group for result in part]
        try:
            outcomes = await self._write(lambda: self._store.put(results))
        except BaseException as error:  # whatever it is, every caller is told and the next group goes
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            return
        new = []
        for outcome in outcomes:
            if isinstance(outcome, Committed):
                key = outcome.result.key
                self._heads.stored((key.device, key.camera), key.seq)
                new.append(outcome.result.cursor)
        start = 0
        for part, answer in group:
            with contextlib.suppress(asyncio.InvalidStateError):
                answer.set_result(outcomes[start : start + len(part)])
            start += len(part)
        self.newest = max([self.newest, *new])
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _write(self, call: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

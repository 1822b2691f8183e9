"""The result store for the event loop: reads in threads, those of ingest apart from those of readers; commits
grouped in one thread; readers woken on change."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from cloud.chain_rows import ChainLink
from cloud.messages import FrameKey
from cloud.metrics import CloudMetrics
from cloud.reads import Filter, Page
from cloud.settings import MAX_RETENTION_DAYS
from cloud.store import Committed, Outcome, ResultStore
from splitcodec.background import keep_going
from splitcodec.damaged import is_damage
from splitcodec.errors import ServiceStopping, StoreUnavailable
from splitcodec.threads import ended
from splitcodec.wire.v1.results_pb2 import TaskResult

Value = TypeVar("Value")

READ_THREADS: Final = 4
RETENTION: Final = "retention"  # its name in the counter of background failures
SECONDS_PER_DAY: Final = 86_400
MAX_LANES: Final = 10_000  # cameras whose highest seq is kept in mind; of others the store is asked
STOP_PATIENCE_S: Final = 10.0  # for a disk to take what is queued when the service ends
Outcomes = list[Outcome]
Lane = tuple[str, str]
"""Device and camera."""
_New = tuple[TaskResult, "ChainLink | None"]


class ResultLog:
    """Everything the servicers do with results. StoreUnavailable from any method when the disk fails."""

    def __init__(self, store: ResultStore, metrics: CloudMetrics) -> None:
        self._store = store
        self._metrics = metrics
        self._readers = ReadThreads(store, READ_THREADS, "results-read")
        self._look_ups = ReadThreads(store, 1, "results-look-up")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="results-write")
        self._queued: list[tuple[list[_New], asyncio.Future[Outcomes]]] = []
        self._flush: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._highest_seqs = HighestSeqs()
        self._stopping = False
        self.newest = store.newest()
        metrics.damaged_files.set_function(lambda: store.damaged_files)
        metrics.lost.set_function(lambda: store.lost)

    async def find(self, key: FrameKey) -> TaskResult | None:
        """The result of that frame, or None."""
        return await self._look(self._readers, lambda: self._store.find(key))

    async def look_up(self, key: FrameKey) -> TaskResult | None:
        """See ResultStore.look_up; waits for no reader, however many there are, and for nothing at all if the
        frame is above every seq of its camera."""
        lane = (key.device, key.camera)
        highest = self._highest_seqs.get(lane)
        if highest is None:
            highest = await self._look(self._look_ups, lambda: self._store.highest_seq(*lane))
            self._highest_seqs.learn(lane, highest)
        if key.seq > highest:
            return None
        return await self._look(self._look_ups, lambda: self._store.look_up(key))

    async def read(
        self,
        chosen: Filter,
        after: int,
        limit: int,
        *,
        newest_first: bool = False,
        without_output: bool = False,
    ) -> Page:
        """See ResultStore.read."""
        return await self._look(
            self._readers,
            lambda: self._store.read(
                chosen, after, limit, newest_first=newest_first, without_output=without_output
            ),
        )

    async def tail(self, chosen: Filter, after: int, limit: int, *, without_output: bool = False) -> Page:
        """See ResultStore.tail."""
        return await self._look(
            self._readers, lambda: self._store.tail(chosen, after, limit, without_output=without_output)
        )

    async def check_gap(self, chosen: Filter, after: int) -> None:
        """See ResultStore.check_gap."""
        await self._look(self._readers, lambda: self._store.check_gap(chosen, after))

    async def oldest_position(self, chosen: Filter) -> int:
        """See ResultStore.oldest_position."""
        return await self._look(self._readers, lambda: self._store.oldest_position(chosen))

    async def chain_to(self, lane: Lane, state: bytes, below: int) -> list[bytes]:
        """See chain_rows.chain_to."""
        return await self._look(self._look_ups, lambda: self._store.chain_to(lane, state, below))

    async def commit(
        self, results: Sequence[TaskResult], links: Sequence[ChainLink | None] | None = None
    ) -> Outcomes:
        """Commit in order, see ResultStore.put; returns once it is on disk. Calls that wait at the same time
        share one transaction."""
        outcomes: asyncio.Future[Outcomes] = asyncio.get_running_loop().create_future()
        self._queued.append((list(zip(results, links or [None] * len(results), strict=True)), outcomes))
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

    async def _flush_group(self, group: list[tuple[list[_New], asyncio.Future[Outcomes]]]) -> None:
        results, links = zip(*(new for part, _ in group for new in part), strict=True)
        life = self._store.life
        try:
            outcomes = await self._write(lambda: self._store.put(results, links))
        except BaseException as error:  # whatever it is, every caller is told and the next group goes
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            await self._mend(error, life)
            return
        new = []
        for outcome in outcomes:
            if isinstance(outcome, Committed):
                key = outcome.result.key
                self._highest_seqs.stored((key.device, key.camera), key.seq)
                new.append(outcome.result.cursor)
        start = 0
        for part, answer in group:
            with contextlib.suppress(asyncio.InvalidStateError):
                answer.set_result(outcomes[start : start + len(part)])
            start += len(part)
        self.newest = max([self.newest, *new])
        self._wake()

    async def _look(self, threads: ReadThreads, read: Callable[[], Value]) -> Value:
        life = self._store.life
        try:
            return await threads.run(read)
        except StoreUnavailable as error:
            await self._mend(error, life)
            raise

    async def _mend(self, error: BaseException, life: int) -> None:
        """If it says that the database is damaged, there is a new one after this."""
        if isinstance(error, StoreUnavailable) and is_damage(error.__cause__):
            with contextlib.suppress(StoreUnavailable):  # the next one who asks finds out
                self.newest = await self._write(lambda: self._store.mend(error, life))
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _write(self, call: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)


class ReadThreads:
    """A few threads, each with a connection of its own.

    When its caller is cancelled, a read that waits for a thread is dropped and one that runs is interrupted,
    so that nobody else waits for it.
    """

    def __init__(self, store: ResultStore, count: int, name: str) -> None:
        self._store = store
        self.threads = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, read: Callable[[], Value]) -> Value:
        """What `read`, which calls methods of the store, returns or raises."""
        left = threading.Event()

        def work() -> Value:
            with self._store.while_wanted(left.is_set):
                return read()

        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, work)
        finally:
            left.set()


class HighestSeqs:
    """The highest seq of each lane that the store ever knew, -1 for a lane without a frame; forgets the lanes
    that were silent longest.

    A camera numbers its frames upwards, so nearly every frame that comes in is above all of its camera; it
    needs no look into the database before the graphs run. What is wrong here costs a run of the graphs at
    most: the commit looks again, in its own transaction.
    """

    def __init__(self, max_lanes: int = MAX_LANES) -> None:
        self._highest: OrderedDict[Lane, int] = OrderedDict()
        self._max_lanes = max_lanes

    def get(self, lane: Lane) -> int | None:
        """None: not known here."""
        return self._highest.get(lane)

    def learn(self, lane: Lane, seq: int) -> None:
        """What the store said of a lane, deleted frames included; a higher seq that came since stays."""
        self._highest[lane] = max(seq, self._highest.get(lane, -1))
        self._highest.move_to_end(lane)
        while len(self._highest) > self._max_lanes:
            self._highest.popitem(last=False)

    def stored(self, lane: Lane, seq: int) -> None:
        """A frame was committed. Of a lane that is not known this says nothing: it may have higher ones."""
        if lane in self._highest:
            self.learn(lane, seq)

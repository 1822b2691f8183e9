"""Dynamic batching: items that wait at the same time and share a group go to a worker thread together.

A worker that is free takes the group that `GroupQueue` names: a full one, or one that has waited `window_s`
for company. What is waiting or in work has one of `max_pending` places. Callers that may wait for a place
leave some to those that may not, who would find none otherwise. Cancelled items never reach a worker.
Whatever fails, here or in a worker, ends every item that it holds up with an error, and the next items go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from prometheus_client import Counter

from cloud.group_queue import GroupQueue
from splitcodec.background import keep_going
from splitcodec.errors import GraphFailed, QueueFull, ServiceStopping

log = logging.getLogger(__name__)

RESERVED_SHARE: Final = 8
"""One in so many places is kept from callers that wait for a place."""
DISPATCH: Final = "dispatch"  # its name in the counter of background failures
DISPATCH_AGAIN_S: Final = 0.1

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True)
class BatchLimits:
    """max_batch: items per batch. window_s: seconds an item waits for company. max_pending: items waiting or
    in work.

    workers: batches in work at once.
    """

    max_batch: int
    window_s: float
    max_pending: int
    workers: int

    @property
    def patient_places(self) -> int:
        """Places that callers who wait for one may hold: all but a reserve; a single place has no reserve."""
        return max(1, self.max_pending - max(1, self.max_pending // RESERVED_SHARE))


@dataclass(frozen=True)
class Batched(Generic[Output]):
    """An output, and the seconds its item waited for a worker."""

    output: Output
    queue_seconds: float


@dataclass(eq=False)  # two items with equal fields are still two items
class _Waiting(Generic[Item, Output]):
    item: Item
    since: float
    answer: asyncio.Future[Batched[Output]]

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended; always an Exception that a future takes."""
        if self.answer.done():
            return
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            failure = GraphFailed(f"a run failed: {error!r}")
            failure.__cause__ = error
            error = failure
        self.answer.set_exception(error)


class Batcher(Generic[Item, Output]):
    """Calls `run(items)` in worker threads; it gives, in order, an output or an exception for each item.

    If it raises for several items, or gives another number of outputs, it is called again for each of them
    alone, so that one harms no other.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Output | Exception]],
        limits: BatchLimits,
        observe_size: Callable[[float], None],
        failures: Counter,
    ) -> None:
        """`observe_size` is told the size of each batch; failures: see keep_going."""
        self._run = run
        self._observe_size = observe_size
        self._failures = failures
        self._limits = limits
        self._queue: GroupQueue[_Waiting[Item, Output]] = GroupQueue(limits.max_batch, limits.window_s)
        self._arrived = asyncio.Event()
        self._places = asyncio.Semaphore(limits.max_pending)
        self._patient_places = asyncio.Semaphore(limits.patient_places)
        self._free_workers = asyncio.Semaphore(limits.workers)
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="batch")
        self._in_work: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._stopped = False
        self.pending = 0

    def start(self) -> None:
        """Begin to dispatch; call it inside the event loop."""
        dispatching = keep_going(DISPATCH, self._dispatch, DISPATCH_AGAIN_S, self._failures)
        self._dispatcher = asyncio.create_task(dispatching)

    async def stop(self, patience_s: float) -> None:
        """Refuse with ServiceStopping what waits, and what is in work and not done in patience_s seconds.

        A thread that hangs is left to itself.
        """
        self._stopped = True
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait([self._dispatcher])
        _fail_all(self._queue.clear(), _stopping())
        if self._in_work:
            _, hung = await asyncio.wait(self._in_work, timeout=patience_s)
            if hung:
                log.error("%d batches still run after %g s; they are dropped", len(hung), patience_s)
                for work in hung:
                    work.cancel()
                await asyncio.wait(hung)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def submit(self, item: Item, group: Hashable, *, wait_for_place: bool) -> Batched[Output]:
        """The output of `item`, or the exception `run` gave for it.

        Without a free place: waits for one, or raises QueueFull if it may not wait. ServiceStopping.
        """
        async with self._place(wait=wait_for_place):
            if self._stopped:
                raise _stopping()
            answer: asyncio.Future[Batched[Output]] = asyncio.get_running_loop().create_future()
            entry = _Waiting(item, time.perf_counter(), answer)
            self._queue.put(entry, group, entry.since)
            self._arrived.set()
            try:
                return await answer
            finally:
                self._queue.discard(entry, group)

    @asynccontextmanager
    async def _place(self, *, wait: bool) -> AsyncIterator[None]:
        """One of the places, held until the block ends.

        Who waits first waits for a patient place. So those who may not wait find the others locked only while
        all are taken, or while they hold more than the reserve themselves.
        """
        if not wait and self._places.locked():
            raise QueueFull(
                f"{self.pending} frames are pending, the limit is {self._limits.max_pending}; send slower, "
                "or raise max_pending_frames or add a machine"
            )
        async with self._patient_places if wait else nullcontext(), self._places:
            self.pending += 1
            try:
                yield
            finally:
                self.pending -= 1

    async def _dispatch(self) -> None:
        while True:
            await self._free_workers.acquire()
            try:
                batch = await self._gather()
            except BaseException as error:
                self._free_workers.release()
                if not isinstance(error, asyncio.CancelledError):
                    _fail_all(self._queue.clear(), error)
                raise
            work = asyncio.create_task(self._work(batch))
            self._in_work.add(work)
            work.add_done_callback(self._in_work.discard)

    async def _gather(self) -> list[_Waiting[Item, Output]]:
        """Wait for items, then take one batch; never empty."""
        while True:
            now = time.perf_counter()
            # An item that was cancelled a moment ago is in the queue until its caller wakes.
            batch = [entry for entry in self._queue.take(now) if not entry.answer.done()]
            if batch:
                return batch
            due = self._queue.next_due()
            await self._next_arrival(None if due is None else due - now)

    def _run_each(self, items: Sequence[Item]) -> Sequence[Output | BaseException]:
        try:
            outputs = self._run(items)
            if len(outputs) == len(items):
                return outputs
            raise GraphFailed(f"a run of {len(items)} frames gave {len(outputs)} answers")
        except BaseException as error:  # the panic of an extension is no Exception
            if len(items) == 1:
                return [error]
        return [output for item in items for output in self._run_each([item])]

    async def _next_arrival(self, timeout_s: float | None) -> None:
        self._arrived.clear()
        arrival: Awaitable[bool] = self._arrived.wait()
        try:
            await asyncio.wait_for(arrival, timeout_s)
        except asyncio.TimeoutError:
            return

    async def _work(self, batch: list[_Waiting[Item, Output]]) -> None:
        started = time.perf_counter()
        try:
            self._observe_size(len(batch))
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._run_each, [entry.item for entry in batch]
            )
        except asyncio.CancelledError:  # from `stop`; the task ends with the answers
            return _fail_all(batch, _stopping())
        except BaseException as error:  # whatever it is, every caller is told
            return _fail_all(batch, error)
        finally:
            self._free_workers.release()
        for entry, output in zip(batch, outputs, strict=True):
            if isinstance(output, BaseException):
                entry.fail(output)
            elif not entry.answer.done():
                entry.answer.set_result(Batched(output, started - entry.since))


def _fail_all(entries: Iterable[_Waiting[Item, Output]], error: BaseException) -> None:
    for entry in entries:
        entry.fail(error)


def _stopping() -> ServiceStopping:
    return ServiceStopping("the service is stopping; send the frame again")

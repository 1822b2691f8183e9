"""Dynamic batching: items that wait at the same time and share a group go to a worker thread together.

A worker that is free takes the group of the oldest item, after that item has waited `window_s` for company or
the batch is full. What is waiting or in work is bounded. Cancelled items never reach a worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from splitcodec.errors import QueueFull, ServiceStopping

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Batched(Generic[Output]):
    """An output, and the seconds its item waited for a worker."""

    output: Output
    queue_seconds: float


@dataclass(eq=False)  # two items with equal fields are still two items
class _Waiting(Generic[Item, Output]):
    item: Item
    group: Hashable
    since: float
    answer: asyncio.Future[Batched[Output]]


class Batcher(Generic[Item, Output]):
    """Calls `run(items)` in worker threads; it gives, in order, an output or an exception for each item.

    If it raises for several items it is called again for each of them alone, so that one harms no other.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Output | Exception]],
        limits: BatchLimits,
        observe_size: Callable[[float], None],
    ) -> None:
        """`observe_size` is told the size of each batch."""
        self._run = run
        self._observe_size = observe_size
        self._limits = limits
        self._waiting: list[_Waiting[Item, Output]] = []
        self._arrived = asyncio.Event()
        self._room = asyncio.Semaphore(limits.max_pending)
        self._free_workers = asyncio.Semaphore(limits.workers)
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="batch")
        self._in_work: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self.pending = 0

    def start(self) -> None:
        """Begin to dispatch; call it inside the event loop."""
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def stop(self, patience_s: float) -> None:
        """Refuse with ServiceStopping what waits, and what is in work and not done in patience_s seconds.

        A thread that hangs is left to itself.
        """
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait([self._dispatcher])
        for entry in self._waiting:
            if not entry.answer.done():
                entry.answer.set_exception(_stopping())
        self._waiting.clear()
        if self._in_work:
            _, hung = await asyncio.wait(self._in_work, timeout=patience_s)
            if hung:
                log.error("%d batches still run after %g s; they are dropped", len(hung), patience_s)
                for work in hung:
                    work.cancel()
                await asyncio.wait(hung)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def submit(self, item: Item, group: Hashable, *, wait_for_room: bool) -> Batched[Output]:
        """The output of `item`, or the exception `run` gave for it.

        With max_pending items pending: waits for room, or raises QueueFull if it may not wait.
        """
        if not wait_for_room and self._room.locked():
            raise QueueFull(
                f"{self.pending} frames are pending, the limit is {self._limits.max_pending}; send slower, "
                "or raise max_pending_frames or add a machine"
            )
        await self._room.acquire()
        self.pending += 1
        try:
            answer: asyncio.Future[Batched[Output]] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Waiting(item, group, time.perf_counter(), answer))
            self._arrived.set()
            return await answer
        finally:
            self.pending -= 1
            self._room.release()

    async def _dispatch(self) -> None:
        while True:
            await self._free_workers.acquire()
            try:
                batch = await self._gather()
            except asyncio.CancelledError:
                self._free_workers.release()
                raise
            work = asyncio.create_task(self._work(batch))
            self._in_work.add(work)
            work.add_done_callback(self._in_work.discard)

    async def _gather(self) -> list[_Waiting[Item, Output]]:
        """Wait for items, then take one batch; never empty."""
        while True:
            self._waiting = [entry for entry in self._waiting if not entry.answer.done()]
            if not self._waiting:
                await self._next_arrival(None)
                continue
            oldest = self._waiting[0]
            group = [entry for entry in self._waiting if entry.group == oldest.group][
                : self._limits.max_batch
            ]
            patience = oldest.since + self._limits.window_s - time.perf_counter()
            if len(group) == self._limits.max_batch or patience <= 0:
                self._waiting = [entry for entry in self._waiting if entry not in group]
                return group
            await self._next_arrival(patience)

    def _run_each(self, items: Sequence[Item]) -> Sequence[Output | Exception]:
        try:
            return self._run(items)
        except Exception as error:
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
        self._observe_size(len(batch))
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._run_each, [entry.item for entry in batch]
            )
        except asyncio.CancelledError:  # from `stop`; the task ends with the answers
            outputs = [_stopping()] * len(batch)
        finally:
            self._free_workers.release()
        for entry, output in zip(batch, outputs, strict=True):
            if entry.answer.done():
                continue
            if isinstance(output, Exception):
                entry.answer.set_exception(output)
            else:
                entry.answer.set_result(Batched(output, started - entry.since))


def _stopping() -> ServiceStopping:
    return ServiceStopping("the service is stopping; send the frame again")

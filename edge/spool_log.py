"""The spool for the event loop: one thread, and one transaction for all that waits when it gets to it.

A group never waits to be filled: what comes while one is being written to disk is the next one, so a lone
frame is on disk after one write, and a crowd shares them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from edge.metrics import EdgeMetrics
from edge.spool import Spool
from edge.spool_types import Depth
from splitcodec.errors import SplitcodecError

log = logging.getLogger(__name__)
T = TypeVar("T")
STOP_PATIENCE_S: Final = 10.0  # for a disk to take what is queued when the service ends
GROUP: Final = 128  # operations per transaction; bounds how long the last one waits


@dataclass(frozen=True)
class _Operation:
    work: Callable[[Spool], object]
    done: asyncio.Future[Any]


class SpoolLog:
    """Runs operations on a spool in the order they came; several of them are committed together."""

    def __init__(self, spool: Spool, metrics: EdgeMetrics) -> None:
        self._spool = spool
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._queued: list[_Operation] = []
        self._flushing: asyncio.Task[None] | None = None
        metrics.spool_oldest.set_function(self.oldest_age)
        metrics.spool_limit.set(spool.limits.max_bytes)
        self._publish()

    @property
    def depth(self) -> Depth:
        """What waits on disk, as of the last commit."""
        return self._spool.depth

    @property
    def note(self) -> str:
        """What an operator should know about the file; empty if nothing."""
        return self._spool.note

    def oldest_age(self) -> float:
        """Seconds of running time that the oldest frame has waited."""
        oldest = self._spool.depth.oldest
        return 0.0 if oldest is None else max(self._spool.now() - oldest, 0.0)

    async def run(self, work: Callable[[Spool], T]) -> T:
        """The result of `work(spool)` once it is on disk, or its error. SpoolUnavailable, SpoolFull."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queued.append(_Operation(work, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def stop(self, patience_s: float = STOP_PATIENCE_S) -> None:
        """Finish what is queued and close the spool; one that hangs for patience_s is left."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=patience_s)
        closing = asyncio.wrap_future(self._thread.submit(self._spool.close))
        await asyncio.wait([closing], timeout=patience_s)
        if not closing.done():
            log.error("the spool's disk hangs; frames that were not answered are not kept")
            self._thread.shutdown(wait=False, cancel_futures=True)
            return
        self._thread.shutdown()
        closing.result()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queued:
                group, self._queued = self._queued[:GROUP], self._queued[GROUP:]
                outcomes = await loop.run_in_executor(self._thread, self._commit, group)
                for operation in group:
                    with contextlib.suppress(asyncio.InvalidStateError):  # nobody waits any more
                        _settle(operation.done, outcomes[id(operation)])
                self._publish()
        finally:
            self._flushing = None

    def count_failure(self) -> None:
        """Work behind the calls failed on the spool in a way that nobody foresaw."""
        self._metrics.background_failures.labels("spool").inc()

    def _commit(self, group: list[_Operation]) -> Mapping[int, object]:
        """Runs in the thread. Outcomes by operation; an error that ends the transaction is everybody's."""
        outcomes: dict[int, object] = {}
        started = time.perf_counter()
        try:
            with self._spool.transaction():
                for operation in group:
                    try:
                        outcomes[id(operation)] = operation.work(self._spool)
                    except SplitcodecError as error:
                        outcomes[id(operation)] = error
        except BaseException as error:  # whatever it is, every caller is told and the next group goes
            return {id(operation): error for operation in group}
        self._metrics.spool_commit.observe(time.perf_counter() - started)
        return outcomes

    def _publish(self) -> None:
        self._metrics.spool_frames.set(self._spool.depth.frames)
        self._metrics.spool_bytes.set(self._spool.depth.num_bytes)


def _settle(done: asyncio.Future[Any], outcome: object) -> None:
    if isinstance(outcome, BaseException):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)

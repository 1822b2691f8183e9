"""One thread for work that would stall the event loop, with a bounded queue in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from splitcodec.errors import QueueFull
from splitcodec.threads import LAST_PATIENCE_S, shut

T = TypeVar("T")


class Worker:
    """Runs callables one at a time, in the order they came."""

    def __init__(self, name: str, max_pending: int) -> None:
        """max_pending: callables waiting or running before more are refused."""
        self._name = name
        self._max_pending = max_pending
        self._pending = 0
        self._unfinished: set[Future[Any]] = set()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The callable's result, or its error; QueueFull if too many wait. Cancelling does not stop it."""
        if self._pending >= self._max_pending:
            raise QueueFull(
                f"{self._pending} {self._name} jobs wait, the limit is {self._max_pending}; ask again later"
            )
        loop = asyncio.get_running_loop()
        self._pending += 1
        future = self._threads.submit(work)
        self._unfinished.add(future)

        def finished(done: Future[T]) -> None:
            self._unfinished.discard(done)
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._finished)

        future.add_done_callback(finished)
        return await asyncio.wrap_future(future)

    def close(self, patience_s: float = 0.0) -> None:
        """Drop the jobs that wait; one that runs longer than patience_s seconds is left to itself.

        It gets LAST_PATIENCE_S at least.
        """
        shut(self._threads, list(self._unfinished), max(patience_s, LAST_PATIENCE_S))

    def _finished(self) -> None:
        self._pending -= 1

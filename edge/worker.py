"""One thread for work that would stall the event loop, with a bounded queue in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from splitcodec.errors import QueueFull

T = TypeVar("T")


class Worker:
    """Runs callables one at a time, in the order they came."""

    def __init__(self, name: str, max_pending: int) -> None:
        """max_pending: callables waiting or running before more are refused."""
        self._name = name
        self._max_pending = max_pending
        self._pending = 0
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

        def finished(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._finished)

        future.add_done_callback(finished)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for the running job and drop those that wait."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _finished(self) -> None:
        self._pending -= 1

"""Threads that read from the result store for the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cloud.store import ResultStore

Value = TypeVar("Value")


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

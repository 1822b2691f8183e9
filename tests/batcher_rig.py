"""A batcher by itself, work for it that a test can hold up, and items that wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry
from waiting import until

from cloud.batching import Batcher, BatchLimits
from cloud.metrics import CloudMetrics

PATIENCE_S = 20.0


class Doubler:
    """Doubles numbers once `gate` is open; an odd number above 100 is an error of its own."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.batches: list[list[int]] = []
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        with self._lock:
            self.batches.append(list(items))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.started.set()
        assert self.gate.wait(PATIENCE_S)
        with self._lock:
            self.running -= 1
        return [ValueError(item) if item > 100 and item % 2 else 2 * item for item in items]


@asynccontextmanager
async def batching(
    run: Callable[[Sequence[int]], Sequence[int | Exception]],
    max_batch: int = 4,
    window_s: float = 0.0,
    max_pending: int = 100,
    workers: int = 1,
    observe_size: Callable[[float], None] = lambda size: None,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Batcher[int, int]]:
    limits = BatchLimits(max_batch, window_s, max_pending, workers)
    failures = CloudMetrics(registry or CollectorRegistry()).background_failures
    batcher = Batcher(run, limits, observe_size, failures)
    batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(run, Doubler):
            run.gate.set()
        await batcher.stop(PATIENCE_S)


async def pending(batcher: Batcher[int, int], count: int) -> None:
    await until(lambda: batcher.pending >= count)


def submit(batcher: Batcher[int, int], item: int, group: str = "a", wait: bool = True) -> asyncio.Task[int]:
    async def call() -> int:
        return (await batcher.submit(item, group, wait_for_place=wait)).output

    return asyncio.create_task(call())

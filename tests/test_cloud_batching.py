"""The batcher by itself: who shares a batch, bounds, order, failure, stopping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from waiting import until

from cloud.batching import DISPATCH, Batcher, BatchLimits
from cloud.group_queue import GroupQueue
from cloud.metrics import CloudMetrics
from splitcodec.errors import GraphFailed, QueueFull, ServiceStopping

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


async def test_items_that_wait_together_share_batches_of_their_group_up_to_the_limit() -> None:
    run = Doubler()
    async with batching(run, max_batch=3) as batcher:
        tasks = [submit(batcher, 0)]
        await pending(batcher, 1)
        await until(run.started.is_set)
        tasks += [submit(batcher, n, "ab"[n % 2]) for n in range(1, 9)]
        await pending(batcher, 9)
        run.gate.set()
        assert await asyncio.gather(*tasks) == [2 * n for n in range(9)]
    assert run.batches == [[0], [1, 3, 5], [2, 4, 6], [7], [8]]


async def test_the_window_gathers_company_for_a_free_worker() -> None:
    run = Doubler()
    run.gate.set()
    async with batching(run, max_batch=2, window_s=PATIENCE_S) as batcher:
        first = submit(batcher, 1)
        await pending(batcher, 1)
        assert run.batches == []
        second = submit(batcher, 2)
        assert await asyncio.wait_for(asyncio.gather(first, second), PATIENCE_S / 2) == [2, 4]
    assert run.batches == [[1, 2]]


async def test_a_lone_item_goes_when_its_window_is_over() -> None:
    run = Doubler()
    run.gate.set()
    async with batching(run, window_s=0.001) as batcher:
        assert await asyncio.wait_for(submit(batcher, 1), PATIENCE_S) == 2


async def test_an_error_is_its_own_items_alone() -> None:
    run = Doubler()
    async with batching(run) as batcher:
        tasks = [submit(batcher, n) for n in (7, 101, 102)]
        await pending(batcher, 3)
        run.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[0] == 14
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 204


async def test_a_run_that_fails_as_a_whole_fails_every_item_and_the_next_batch_works() -> None:
    calls = 0

    def run(items: Sequence[int]) -> Sequence[int | Exception]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("engine lost")
        return list(items)

    async with batching(run) as batcher:
        with pytest.raises(RuntimeError, match="engine lost"):
            await submit(batcher, 1)
        assert await submit(batcher, 2) == 2


async def test_a_run_that_fails_for_one_item_of_a_batch_fails_that_item_alone() -> None:
    run = Doubler()

    def fragile(items: Sequence[int]) -> Sequence[int | Exception]:
        outputs = run(items)
        if 13 in items:
            raise RuntimeError("engine lost")
        return outputs

    async with batching(fragile) as batcher:
        busy = submit(batcher, 0)
        await until(run.started.is_set)
        tasks = [submit(batcher, n) for n in (7, 13, 9)]
        await pending(batcher, 4)
        run.gate.set()
        assert await busy == 0
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (14, RuntimeError, 18)
    assert run.batches == [[0], [7, 13, 9], [7], [13], [9]]


class _Panic(BaseException):
    """What an extension written in Rust raises when it panics: no Exception."""


@pytest.mark.parametrize("failure", [_Panic, asyncio.CancelledError, SystemExit, StopIteration])
async def test_whatever_ends_a_run_every_caller_is_told_and_the_next_batch_works(
    failure: type[BaseException],
) -> None:
    def run(items: Sequence[int]) -> Sequence[int | Exception]:
        if 13 in items:
            raise failure("engine lost")
        return list(items)

    async with batching(run, max_batch=3, window_s=PATIENCE_S) as batcher:
        tasks = [submit(batcher, n) for n in (7, 13, 9)]
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S / 2)
        assert (answers[0], type(answers[1]), answers[2]) == (7, GraphFailed, 9)
        assert await asyncio.gather(*(submit(batcher, n) for n in (1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("change", [-1, 1])
async def test_a_run_with_another_number_of_outputs_leaves_nobody_without_an_answer(change: int) -> None:
    def run(items: Sequence[int]) -> Sequence[int | Exception]:
        return [*items, 0][: len(items) + change] if 13 in items else list(items)

    async with batching(run, max_batch=3, window_s=PATIENCE_S) as batcher:
        tasks = [submit(batcher, n) for n in (7, 13, 9)]
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S / 2)
    assert (answers[0], type(answers[1]), answers[2]) == (7, GraphFailed, 9)
    assert str(answers[1]) == f"a run of 1 frames gave {1 + change} answers"


async def test_an_output_that_is_no_exception_but_an_error_is_told_as_one() -> None:
    async with batching(lambda items: [_Panic("engine lost")] * len(items)) as batcher:  # type: ignore[list-item]
        with pytest.raises(GraphFailed, match="engine lost"):
            await asyncio.wait_for(submit(batcher, 1), PATIENCE_S)


async def test_a_batch_that_cannot_be_observed_is_told_and_gives_its_worker_back() -> None:
    sizes: list[float] = []

    def observe(size: float) -> None:
        sizes.append(size)
        if len(sizes) == 1:
            raise OSError("no metrics")

    async with batching(list, observe_size=observe) as batcher:
        with pytest.raises(OSError, match="no metrics"):
            await asyncio.wait_for(submit(batcher, 1), PATIENCE_S)
        assert await asyncio.wait_for(submit(batcher, 2), PATIENCE_S) == 2


@pytest.mark.parametrize("failure", [RuntimeError, _Panic])
async def test_a_failure_of_the_dispatch_is_told_and_counted_and_the_next_items_go(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = GroupQueue[object].take
    failures = [failure("no more memory")]

    def failing(queue: GroupQueue[object], now: float) -> list[object]:
        if failures and queue.next_due() is not None:
            raise failures.pop()
        return take(queue, now)

    monkeypatch.setattr(GroupQueue, "take", failing)
    registry = CollectorRegistry()
    async with batching(list, registry=registry) as batcher:
        with pytest.raises((RuntimeError, GraphFailed), match="no more memory"):
            await asyncio.wait_for(submit(batcher, 1), PATIENCE_S)
        assert await asyncio.wait_for(submit(batcher, 2), PATIENCE_S) == 2
    assert registry.get_sample_value("splitcodec_background_failures_total", {"task": DISPATCH}) == 1


async def test_no_more_batches_run_at_once_than_there_are_workers() -> None:
    run = Doubler()
    async with batching(run, max_batch=1, workers=2) as batcher:
        tasks = [submit(batcher, n) for n in range(6)]
        await pending(batcher, 6)
        await until(lambda: run.running == 2)
        run.gate.set()
        await asyncio.gather(*tasks)
    assert run.most_running == 2


async def test_full_means_refused_or_waiting_as_asked() -> None:
    run = Doubler()
    async with batching(run, max_pending=2) as batcher:
        tasks = [submit(batcher, 1, wait=False), submit(batcher, 2, wait=False)]
        await pending(batcher, 2)
        with pytest.raises(QueueFull, match="the limit is 2"):
            await submit(batcher, 3, wait=False)
        patient = submit(batcher, 4)
        with pytest.raises(QueueFull):  # asked after the patient one, so that one has begun to wait
            await submit(batcher, 5, wait=False)
        assert (batcher.pending, patient.done()) == (2, False)
        run.gate.set()
        assert await asyncio.gather(*tasks, patient) == [2, 4, 8]
    assert batcher.pending == 0


@pytest.mark.parametrize(("max_pending", "patient"), [(1, 1), (2, 1), (8, 7), (64, 56)])
async def test_those_who_wait_for_a_place_leave_some_to_those_who_may_not(
    max_pending: int, patient: int
) -> None:
    run = Doubler()
    async with batching(run, max_pending=max_pending) as batcher:
        waiting = [submit(batcher, n % 50) for n in range(3 * max_pending)]
        await pending(batcher, patient)
        for round_ in range(3):  # as often as they come, while more wait than there are places
            hurried = [submit(batcher, 2 * round_, wait=False) for _ in range(max_pending - patient)]
            await pending(batcher, max_pending)
            with pytest.raises(QueueFull):
                await submit(batcher, 1, wait=False)
            for task in hurried:
                task.cancel()
            await asyncio.gather(*hurried, return_exceptions=True)
            assert batcher.pending == patient
        run.gate.set()
        assert await asyncio.gather(*waiting) == [2 * (n % 50) for n in range(3 * max_pending)]


async def test_those_who_may_not_wait_do_not_starve_those_who_do() -> None:
    run = Doubler()
    async with batching(run, max_pending=4) as batcher:
        held = [submit(batcher, n, wait=False) for n in range(4)]
        await pending(batcher, 4)
        patient = submit(batcher, 9)
        await asyncio.sleep(0)
        held[3].cancel()
        await asyncio.wait([held[3]])
        with pytest.raises(QueueFull):  # the place that is free now is the patient one's
            await submit(batcher, 5, wait=False)
        run.gate.set()
        assert await patient == 18


async def test_a_full_group_goes_while_another_gathers_company() -> None:
    run = Doubler()
    run.gate.set()
    async with batching(run, max_batch=2, window_s=2 * PATIENCE_S) as batcher:
        lone = submit(batcher, 1, "a")
        await pending(batcher, 1)
        both = [submit(batcher, n, "b") for n in (2, 3)]
        assert await asyncio.wait_for(asyncio.gather(*both), PATIENCE_S) == [4, 6]
        assert not lone.done()
        lone.cancel()
    assert run.batches == [[2, 3]]


async def test_cancelled_items_never_reach_a_worker() -> None:
    run = Doubler()
    async with batching(run) as batcher:
        busy = submit(batcher, 1)
        await until(run.started.is_set)
        dropped, kept = submit(batcher, 2), submit(batcher, 3)
        await pending(batcher, 3)
        dropped.cancel()
        await asyncio.wait([dropped])
        run.gate.set()
        assert await asyncio.gather(busy, kept) == [2, 6]
    assert run.batches == [[1], [3]]


async def test_stopping_finishes_what_runs_and_refuses_what_waits() -> None:
    run = Doubler()
    async with batching(run) as batcher:
        busy = submit(batcher, 1)
        await until(run.started.is_set)
        waiting = submit(batcher, 2)
        await pending(batcher, 2)
        stopping = asyncio.create_task(batcher.stop(PATIENCE_S))
        with pytest.raises(ServiceStopping):
            await waiting
        run.gate.set()
        await stopping
        assert await busy == 2


async def test_a_batch_that_hangs_does_not_hold_up_the_stop() -> None:
    run = Doubler()
    async with batching(run) as batcher:
        hanging = submit(batcher, 1)
        await until(run.started.is_set)
        await asyncio.wait_for(batcher.stop(0), PATIENCE_S)
        with pytest.raises(ServiceStopping, match="send the frame again"):
            await hanging
        assert not run.gate.is_set()


async def test_who_waits_for_a_place_is_refused_by_the_stop() -> None:
    run = Doubler()
    async with batching(run, max_pending=1) as batcher:
        hanging, waiting = submit(batcher, 1), submit(batcher, 2)
        await until(run.started.is_set)
        await batcher.stop(0)
        for task in (hanging, waiting):
            with pytest.raises(ServiceStopping):
                await asyncio.wait_for(task, PATIENCE_S)

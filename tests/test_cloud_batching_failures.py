"""The batcher when a run, an item or the dispatch fails: who is told, and that the next batch works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from batcher_rig import PATIENCE_S, Doubler, batching, pending, submit
from prometheus_client import CollectorRegistry
from waiting import until

from cloud.batching import DISPATCH
from cloud.group_queue import GroupQueue
from splitcodec.errors import GraphFailed


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

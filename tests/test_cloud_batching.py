"""The batcher by itself: who shares a batch, bounds, order, stopping."""

from __future__ import annotations

import asyncio

import pytest
from batcher_rig import PATIENCE_S, Doubler, batching, pending, submit
from waiting import until

from splitcodec.errors import QueueFull, ServiceStopping


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

"""Work beside the calls goes on after any failure, and each failure is counted."""

from __future__ import annotations

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from cloud.metrics import CloudMetrics
from splitcodec.background import keep_going
from splitcodec.errors import StoreUnavailable

PATIENCE_S = 20.0


class _Panic(BaseException):
    """What an extension in Rust raises: no Exception."""


async def _cancelled_from_inside() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


def _failures(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("splitcodec_background_failures_total", {"task": "chore"})


async def test_a_step_goes_on_after_any_failure_and_each_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    failures = [OverflowError("value"), StoreUnavailable("disk"), _Panic("panic"), asyncio.CancelledError()]
    done = asyncio.Event()

    async def step() -> None:
        if failures:
            raise failures.pop(0)
        done.set()

    with caplog.at_level(logging.ERROR):
        work = asyncio.create_task(keep_going("chore", step, 0, CloudMetrics(registry).background_failures))
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait([work, waiting], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        assert done.is_set()
        assert not work.done()
        work.cancel()
        await asyncio.wait([work])
    assert _failures(registry) == 4
    told = [record for record in caplog.records if record.name == "splitcodec.background"]
    assert len(told) == 4
    assert all("chore failed" in record.getMessage() and record.exc_info for record in told)


async def test_a_future_that_its_maker_cancelled_and_a_step_that_never_began_are_failures_too() -> None:
    registry = CollectorRegistry()
    done = asyncio.Event()
    ways = [_cancelled_from_inside, lambda: 1 / 0]

    def step():
        if ways:
            return ways.pop(0)()
        done.set()
        return asyncio.get_running_loop().create_future()

    work = asyncio.create_task(keep_going("chore", step, 0, CloudMetrics(registry).background_failures))
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert _failures(registry) == 2


async def test_cancellation_ends_the_step_first_and_is_no_failure() -> None:
    registry = CollectorRegistry()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def step() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    work = asyncio.create_task(keep_going("chore", step, 0, CloudMetrics(registry).background_failures))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    assert _failures(registry) == 0
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert ended.is_set()
    assert _failures(registry) == 0

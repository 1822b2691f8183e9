"""Retention survives any failure, overflows by no setting, and loses nothing by a clock that was wrong."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from prometheus_client import CollectorRegistry
from test_cloud_store import result, seqs

from cloud import retention
from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.settings import load_settings
from cloud.store import RETIRE_ROWS, ResultStore
from splitcodec.errors import SettingsError

ANY_SIZE = 2**62
DAY = 86_400 * 10**9
OLD, YOUNG, FUTURE = -8 * DAY, -1 * DAY, 300 * DAY  # stamps, from now; kept for 7 days


class _FailsAtFirst(ResultStore):
    """Its retention fails twice, with errors that no table knows, then works."""

    def __init__(self, folder: Path, worked: asyncio.Event) -> None:
        super().__init__(folder)
        self._failures: list[Exception] = [OverflowError("int too large"), RuntimeError("no such thing")]
        self._loop = asyncio.get_running_loop()
        self._worked = worked

    def retire_some(self, oldest_stored: int, max_bytes: int) -> int:
        if self._failures:
            raise self._failures.pop(0)
        self._loop.call_soon_threadsafe(self._worked.set)
        return super().retire_some(oldest_stored, max_bytes)


async def test_retention_survives_any_failure_and_counts_it(tmp_path: Path) -> None:
    worked = asyncio.Event()
    registry = CollectorRegistry()
    results = ResultLog(_FailsAtFirst(tmp_path, worked), CloudMetrics(registry))
    retention = asyncio.create_task(results.retire_for_ever(7, ANY_SIZE, interval_s=0))
    waiting = asyncio.create_task(worked.wait())
    await asyncio.wait([retention, waiting], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    assert worked.is_set()
    assert registry.get_sample_value("splitcodec_background_failures_total", {"task": "retention"}) == 2
    retention.cancel()
    await asyncio.wait([retention])
    assert retention.cancelled()
    await results.stop()


@pytest.mark.parametrize("setting", ["--retention-days", "--retention-interval-s"])
@pytest.mark.parametrize("value", ["inf", "nan", "200000", "0"])
def test_a_retention_that_would_overflow_is_refused(setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=setting.strip("-").replace("-", "_")):
        load_settings([setting, value])


@pytest.mark.parametrize("days", [36_500, 200_000, math.inf])
async def test_a_long_retention_keeps_everything_and_does_not_overflow(tmp_path: Path, days: float) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        assert await cloud.server.retire(max_age_days=days) == 0
        assert cloud.metric("splitcodec_cloud_stored_results") == 1


@pytest.fixture
def stamped(tmp_path: Path):
    """Gives a store with one result per stamp, in nanoseconds from now, with the seqs 0, 1, ..."""
    opened: list[ResultStore] = []

    def make(stamps: list[int]) -> ResultStore:
        store = ResultStore(tmp_path)
        opened.append(store)
        store.put([result(seq) for seq in range(len(stamps))])
        now = time.time_ns()
        rows = [(now + stamp, seq) for seq, stamp in enumerate(stamps)]
        store._writer.execute("BEGIN")
        store._writer.executemany("UPDATE results SET stored = ? WHERE seq = ?", rows)
        store._writer.execute("COMMIT")
        return store

    yield make
    for store in opened:
        store.close()


Stamped = Callable[[list[int]], ResultStore]


def _retire(store: ResultStore) -> int:
    total = 0
    while gone := store.retire_some(time.time_ns() - 7 * DAY, ANY_SIZE):
        total += gone
    return total


def test_a_result_stored_while_the_clock_was_behind_takes_no_earlier_ones_with_it(stamped: Stamped) -> None:
    store = stamped([OLD, YOUNG, YOUNG, OLD, YOUNG])
    assert _retire(store) == 1
    assert seqs(store) == [1, 2, 3, 4]


def test_results_stored_in_the_future_go_when_something_old_follows_and_stay_otherwise(
    stamped: Stamped,
) -> None:
    store = stamped([FUTURE, FUTURE, OLD, FUTURE, YOUNG])
    assert _retire(store) == 3
    assert seqs(store) == [3, 4]


def test_more_results_from_the_future_than_go_at_once_do_not_end_retention(stamped: Stamped) -> None:
    store = stamped([FUTURE] * (2 * RETIRE_ROWS + 7) + [OLD, YOUNG])
    assert _retire(store) == 2 * RETIRE_ROWS + 8
    assert seqs(store) == [2 * RETIRE_ROWS + 8]


def test_a_clock_that_fell_back_to_its_epoch_retires_nothing(stamped: Stamped) -> None:
    store = stamped([OLD, YOUNG])
    now = 10 * DAY
    assert retention.last_old(store._writer, now - 7 * DAY, now, RETIRE_ROWS) == 0


QUERIES = {
    "SCAN results": [(retention.STAMPS, 4)],  # in the order of the table, ended by its limit
    "SEARCH results USING INTEGER PRIMARY KEY (rowid<?)": [
        (retention.OLDEST, (9, 4)),
        (retention.DELETE, (9,)),
    ],
    "SEARCH retired USING PRIMARY KEY (device=? AND camera=?)": [(retention.MARK, ("box", "door"))],
}


@pytest.mark.parametrize("plan", QUERIES)
def test_retention_sorts_nothing_and_walks_no_table(tmp_path: Path, plan: str) -> None:
    store = ResultStore(tmp_path)
    try:
        for query, values in QUERIES[plan]:
            values = values if isinstance(values, tuple) else (values,)
            steps = store._writer.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
            assert [step[3] for step in steps] == [plan]
            assert plan.startswith("SEARCH") or query.endswith("ORDER BY cursor LIMIT ?")
    finally:
        store.close()


@pytest.mark.parametrize("stamp", [OLD, YOUNG, FUTURE], ids=["old", "young", "future"])
def test_a_pass_costs_the_same_however_much_is_stored(
    stamped: Stamped, stamp: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_AHEAD", 100)
    monkeypatch.setattr("cloud.store.RETIRE_ROWS", 50)
    store = stamped([stamp] * 3000)
    steps = _steps_of(store, lambda: store.retire_some(time.time_ns() - 7 * DAY, ANY_SIZE))
    more = [result(seq) for seq in range(3000, 9000)]
    store.put(more)
    again = _steps_of(store, lambda: store.retire_some(time.time_ns() - 7 * DAY, ANY_SIZE))
    assert again <= 2 * steps + 1


def _steps_of(store: ResultStore, call: Callable[[], object]) -> int:
    """Hundreds of instructions of SQLite's machine that the writer needs for a call."""
    count = 0

    def look() -> int:
        nonlocal count
        count += 1
        return 0

    store._writer.set_progress_handler(look, 100)
    call()
    store._writer.set_progress_handler(None, 0)
    return count

"""Retention as the service runs it: it survives any failure, and no setting can overflow it."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from prometheus_client import CollectorRegistry

from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.settings import load_settings
from cloud.store import ResultStore
from splitcodec.errors import SettingsError

ANY_SIZE = 2**62


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

"""Commits in groups: whatever one fails with, its callers are told and the next one goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from test_cloud_store import result, seqs

from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.store import Committed, ResultStore
from splitcodec.errors import StoreUnavailable

PATIENCE_S = 20.0


class _Panic(BaseException):
    """What an extension in Rust raises: no Exception."""


class _FailsOnce(ResultStore):
    failure: BaseException | None

    def put(self, results, links=None):
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return super().put(results, links)


@pytest.mark.parametrize("failure", [StoreUnavailable("disk"), MemoryError(), _Panic("panic")], ids=repr)
async def test_a_commit_that_fails_tells_all_its_callers_and_the_next_goes(
    tmp_path: Path, failure: BaseException
) -> None:
    store = _FailsOnce(tmp_path)
    store.failure = failure
    results = ResultLog(store, CloudMetrics(CollectorRegistry()))
    told = await asyncio.wait_for(
        asyncio.gather(*(results.commit([result(seq)]) for seq in (1, 2)), return_exceptions=True), PATIENCE_S
    )
    assert told == [failure, failure]
    (kept,) = await asyncio.wait_for(results.commit([result(3)]), PATIENCE_S)
    assert isinstance(kept, Committed)
    assert seqs(store) == [3]
    await results.stop()

"""Readers never hold up ingest, and what nobody waits for any more is given up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from prometheus_client import CollectorRegistry

from cloud.messages import FrameKey
from cloud.metrics import CloudMetrics
from cloud.reads import Filter, Page
from cloud.result_log import READ_THREADS, ResultLog
from cloud.store import ResultStore
from splitcodec.wire.v1.results_pb2 import ListResultsRequest

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


class _SlowStore(ResultStore):
    """Device `blocked` is read once `gate` is open, device `endless` never ends; `begun` counts both."""

    gate: threading.Event
    begun: threading.Semaphore
    devices: list[str]

    def read(
        self,
        chosen: Filter,
        after: int,
        limit: int,
        *,
        newest_first: bool = False,
        without_output: bool = False,
    ) -> Page:
        self.devices.append(chosen.device)
        if chosen.device in ("blocked", "endless"):
            self.begun.release()
        if chosen.device == "blocked":
            assert self.gate.wait(PATIENCE_S)
        if chosen.device == "endless":
            with self._storing():
                self._reader().execute(ENDLESS).fetchone()
        return super().read(chosen, after, limit, newest_first=newest_first, without_output=without_output)


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch):
    _SlowStore.gate = threading.Event()
    _SlowStore.begun = threading.Semaphore(0)
    _SlowStore.devices = []
    monkeypatch.setattr("cloud.server.ResultStore", _SlowStore)
    yield
    _SlowStore.gate.set()


async def _all_threads_busy() -> None:
    for _ in range(READ_THREADS):
        assert await asyncio.to_thread(_SlowStore.begun.acquire, timeout=PATIENCE_S)


async def test_a_frame_is_answered_while_every_reader_is_blocked(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        request = ListResultsRequest(device="blocked")
        lists = [cloud.results.List(request, timeout=2 * PATIENCE_S) for _ in range(READ_THREADS)]
        await _all_threads_busy()
        try:
            answer = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S / 2)
            again = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S / 2)
        finally:
            _SlowStore.gate.set()
        pages = [await call for call in lists]
    assert not answer.repeated_frame
    assert again.repeated_frame
    assert [len(page.results) for page in pages] == [0] * READ_THREADS


async def test_a_call_that_is_cancelled_gives_its_thread_back(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        request = ListResultsRequest(device="endless")
        lists = [cloud.results.List(request, timeout=PATIENCE_S) for _ in range(READ_THREADS)]
        await _all_threads_busy()
        for call in lists:
            call.cancel()
        page = await cloud.results.List(ListResultsRequest(device="box"), timeout=PATIENCE_S / 2)
        assert [one.key.seq for one in page.results] == [1]


async def test_a_call_whose_time_is_up_gives_its_thread_back(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        request = ListResultsRequest(device="endless")
        lists = [cloud.results.List(request, timeout=0.1) for _ in range(READ_THREADS)]
        for call in lists:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        page = await cloud.results.List(ListResultsRequest(device="box"), timeout=PATIENCE_S / 2)
        assert not page.results


async def test_a_read_that_was_cancelled_before_it_began_never_runs(tmp_path: Path) -> None:
    store = _SlowStore(tmp_path)
    results = ResultLog(store, CloudMetrics(CollectorRegistry()))
    running_ = [asyncio.create_task(results.read(Filter("endless"), 0, 10)) for _ in range(READ_THREADS)]
    await _all_threads_busy()
    waiting = asyncio.create_task(results.read(Filter("waiting"), 0, 10))
    assert await results.look_up(FrameKey("box", "door", 1)) is None  # the loop went round: it waits by now
    waiting.cancel()
    for read in running_:
        read.cancel()
    await asyncio.wait([waiting, *running_])
    assert all(read.cancelled() for read in (waiting, *running_))
    page = await asyncio.wait_for(results.read(Filter("box"), 0, 10), PATIENCE_S)
    assert not page.results
    await results.stop()
    assert _SlowStore.devices == ["endless"] * READ_THREADS + ["box"]


def test_an_interrupted_connection_reads_on(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    try:
        reader = store._reader()
        with store.while_wanted(lambda: True):
            reader.execute("BEGIN")
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                reader.execute(ENDLESS).fetchone()
        assert store.read(Filter(), 0, 10).results == ()
    finally:
        store.close()

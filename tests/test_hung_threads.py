"""A session that hangs does not keep a service alive: real processes end on SIGTERM, their data in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from cloud_helpers import infer_request
from edge_rig import JPEG_TYPE, picture
from tiny_pack import write_tiny_pack

from cloud.store import DATABASE_FILE, ResultStore
from edge.worker import Worker
from splitcodec.threads import LeavingThreads, shut
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0

CLOUD = """
import sys, threading
from cloud_helpers import PlainRunner
import cloud.__main__ as service

class Hanging(PlainRunner):
    def run(self, bitstreams):
        outputs = super().run(bitstreams)
        if any(text.startswith("hang") for text in self.batches[-1]):
            print("hangs", flush=True)
            threading.Event().wait()
        return outputs

service.build_runner = lambda *_: Hanging()
service.main()
"""
SLOW_START = """
import threading
import cloud.__main__ as service

def build_runner(*_):
    print("hangs", flush=True)
    threading.Event().wait()

service.build_runner = build_runner
service.main()
"""
DISK_OF_RESULTS = """
import threading
from cloud_helpers import PlainRunner
import cloud.__main__ as service
import cloud.result_log, cloud.store

class Hanging(cloud.store.ResultStore):
    def put(self, results, links=None):
        print("hangs", flush=True)
        threading.Event().wait()

cloud.server.ResultStore = Hanging
cloud.result_log.ResultLog.stop.__defaults__ = (0.2,)
service.build_runner = lambda *_: PlainRunner()
service.main()
"""
DISK_OF_SPOOL = """
import sys, threading
import edge.__main__ as service
import edge.spool_log

def hang(spool):
    print("hangs", flush=True)
    threading.Event().wait()

edge.spool_log.Spool.put = lambda spool, *_, **__: hang(spool)
edge.spool_log.SpoolLog.stop.__defaults__ = (0.2,)
service.CLOSE_S = 1
service.main(sys.argv[1:])
"""
EDGE = """
import dataclasses, sys, threading
import edge.__main__ as service

class Hanging:
    def compress(self, *_, **__):
        print("hangs", flush=True)
        threading.Event().wait()

build = service.build_codec
service.CLOSE_S = 1
service.build_codec = lambda *given: dataclasses.replace(build(*given), encoder=Hanging())
service.main(sys.argv[1:])
"""


@contextmanager
def process(code: str, log: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", code, *flags],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


def line_of(started: subprocess.Popen[str], log: Path) -> str:
    assert started.stdout is not None
    line = started.stdout.readline()
    assert line, log.read_text()
    return line


@pytest.mark.slow
async def test_a_cloud_whose_runner_hangs_ends_on_sigterm_and_closes_its_store(tmp_path: Path) -> None:
    log, data = tmp_path / "log", tmp_path / "data"
    flags = ("--port=0", "--metrics-port=0", f"--data-dir={data}", "--shutdown-grace-s=0.2")
    with process(CLOUD, log, *flags) as cloud:
        target = f"127.0.0.1:{json.loads(line_of(cloud, log))['grpc_port']}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            ingest = FeatureIngestStub(channel)
            await ingest.Infer(infer_request(1), timeout=PATIENCE_S)
            hanging = ingest.Infer(infer_request(2, text="hang"), timeout=PATIENCE_S)
            assert await asyncio.to_thread(line_of, cloud, log) == "hangs\n"
            cloud.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await hanging
            assert await asyncio.to_thread(cloud.wait, PATIENCE_S) == 0
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert "threads that hang: batch" in log.read_text()
    assert not data.joinpath(DATABASE_FILE + "-wal").exists()  # SQLite removes it with the last connection
    ResultStore(data).close()
    with sqlite3.connect(data / DATABASE_FILE) as database:
        assert database.execute("SELECT seq FROM results").fetchall() == [(1,)]


@pytest.mark.slow
def test_a_cloud_that_hangs_while_it_loads_its_packs_ends_on_sigterm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(SLOW_START, log, "--port=0", "--metrics-port=0", f"--data-dir={tmp_path / 'data'}") as cloud:
        assert line_of(cloud, log) == "hangs\n"
        cloud.send_signal(signal.SIGTERM)
        assert cloud.wait(PATIENCE_S) == 0
    assert "stopped before the packs were loaded" in log.read_text()


@pytest.mark.slow
async def test_a_cloud_whose_disk_hangs_ends_on_sigterm(tmp_path: Path) -> None:
    log, data = tmp_path / "log", tmp_path / "data"
    flags = ("--port=0", "--metrics-port=0", f"--data-dir={data}", "--shutdown-grace-s=0.2")
    with process(DISK_OF_RESULTS, log, *flags) as cloud:
        target = f"127.0.0.1:{json.loads(line_of(cloud, log))['grpc_port']}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            hanging = FeatureIngestStub(channel).Infer(infer_request(1), timeout=PATIENCE_S)
            assert await asyncio.to_thread(line_of, cloud, log) == "hangs\n"
            cloud.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError):
                await hanging
            assert await asyncio.to_thread(cloud.wait, PATIENCE_S) == 0
    assert "threads that hang: results-write" in log.read_text()


@pytest.mark.slow
def test_an_edge_whose_spool_hangs_ends_on_sigterm(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "tiny")
    log = tmp_path / "log"
    flags = (f"--pack={tmp_path / 'tiny'}", f"--state-dir={tmp_path / 'state'}", "--port=0")
    with (
        ThreadPoolExecutor(1) as client,
        process(DISK_OF_SPOOL, log, *flags, "--cloud-target=127.0.0.1:9", "--shutdown-grace-s=1") as edge,
    ):
        url = f"http://127.0.0.1:{json.loads(line_of(edge, log))['http_port']}/v1/frames?wait=false"
        client.submit(httpx.post, url, content=picture(), headers=JPEG_TYPE, timeout=PATIENCE_S)
        assert line_of(edge, log) == "hangs\n"
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(PATIENCE_S) == 0
    assert "threads that hang: spool" in log.read_text()


@pytest.mark.slow
def test_an_edge_whose_encoder_hangs_ends_on_sigterm(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "tiny")
    log = tmp_path / "log"
    flags = (f"--pack={tmp_path / 'tiny'}", f"--state-dir={tmp_path / 'state'}", "--port=0")
    with (
        ThreadPoolExecutor(1) as client,
        process(EDGE, log, *flags, "--cloud-target=127.0.0.1:9", "--shutdown-grace-s=1") as edge,
    ):
        url = f"http://127.0.0.1:{json.loads(line_of(edge, log))['http_port']}/v1/frames"
        client.submit(httpx.post, url, content=picture(), headers=JPEG_TYPE, timeout=PATIENCE_S)
        assert line_of(edge, log) == "hangs\n"
        edge.send_signal(signal.SIGTERM)
        assert edge.wait(PATIENCE_S) == 0
    assert "threads that hang: encode" in log.read_text()


async def test_a_worker_drops_what_waits_behind_a_job_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.worker.LAST_PATIENCE_S", 0)
    worker, gate, began = Worker("test", 2), threading.Event(), threading.Event()

    def hang() -> bool:
        began.set()
        return gate.wait(PATIENCE_S)

    hanging = asyncio.create_task(worker.run(hang))
    waiting = asyncio.create_task(worker.run(began.is_set))
    assert await asyncio.to_thread(began.wait, PATIENCE_S)
    await asyncio.to_thread(worker.close, 0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not hanging.done()
    gate.set()
    assert await hanging


def test_a_loop_ends_although_work_of_to_thread_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitcodec.threads.LAST_PATIENCE_S", 0)
    gate, began = threading.Event(), threading.Event()

    def hang() -> bool:
        began.set()
        return gate.wait(PATIENCE_S)

    async def leave() -> None:
        asyncio.get_running_loop().set_default_executor(LeavingThreads())
        asyncio.get_running_loop().run_in_executor(None, hang)
        began.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as own:  # the loop of the tests is running in this thread, maybe
        own.submit(asyncio.run, leave()).result(PATIENCE_S)
    assert not gate.is_set()
    gate.set()


def test_work_that_ends_in_time_is_waited_for_and_what_waits_is_dropped() -> None:
    gate, began = threading.Event(), threading.Event()
    threads = ThreadPoolExecutor(1)

    def work() -> bool:
        began.set()
        return gate.wait(PATIENCE_S)

    running = threads.submit(work)
    assert began.wait(PATIENCE_S)
    waiting = threads.submit(work)
    waiting.add_done_callback(lambda _: gate.set())  # so the first one ends after `shut` has begun
    shut(threads, [running, waiting], PATIENCE_S)
    assert running.result(0)
    assert waiting.cancelled()

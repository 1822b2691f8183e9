"""Recent results and pictures stay within their bounds; work beside the event loop stays in order."""

from __future__ import annotations

import asyncio
import threading

import pytest
from waiting import until

from edge.frames import RecentFrames
from edge.report import FrameReport, Timings
from edge.worker import Worker
from splitcodec.errors import QueueFull, ResultNotFound
from splitcodec.tasks import Detections


def report(seq: int) -> FrameReport:
    return FrameReport(
        id=f"gate-{seq}",
        device="box",
        camera="gate",
        seq=seq,
        task="detect",
        capture_time=0.0,
        answer=Detections(()),
        num_bytes=100,
        bpp=0.1,
        rate=1.0,
        prompt_digest="00" * 8,
        codec_digest="00" * 8,
        source_height=1,
        source_width=1,
        network_height=32,
        network_width=32,
        timings=Timings({}, {}, 0.0, 0.0),
    )


def add(frames: RecentFrames, seq: int, picture: bytes) -> None:
    frames.add_picture(report(seq).id, picture)
    frames.add(report(seq))


def test_the_oldest_results_go_first() -> None:
    frames = RecentFrames(max_frames=2, max_picture_bytes=1000)
    for seq in range(4):
        add(frames, seq, b"x")
    with pytest.raises(ResultNotFound, match=r"'gate-1' .*limit 2"):
        frames.report("gate-1")
    assert frames.report("gate-2").seq == 2
    assert frames.picture("gate-3") == b"x"


def test_pictures_go_before_their_results() -> None:
    frames = RecentFrames(max_frames=10, max_picture_bytes=25)
    for seq in range(3):
        add(frames, seq, bytes(10))
    assert frames.report("gate-0").seq == 0
    with pytest.raises(ResultNotFound, match="limit 25 bytes"):
        frames.picture("gate-0")
    assert len(frames.picture("gate-1")) == 10


def test_a_picture_above_the_whole_budget_is_not_kept() -> None:
    frames = RecentFrames(max_frames=10, max_picture_bytes=25)
    add(frames, 0, bytes(30))
    add(frames, 1, bytes(25))
    with pytest.raises(ResultNotFound):
        frames.picture("gate-0")
    assert len(frames.picture("gate-1")) == 25


def test_bytes_are_counted_over_many_frames() -> None:
    frames = RecentFrames(max_frames=5, max_picture_bytes=10**6)
    for seq in range(1000):
        add(frames, seq, bytes(seq % 7))
    assert frames._picture_bytes == sum(seq % 7 for seq in range(995, 1000))


async def test_work_runs_one_at_a_time_in_order() -> None:
    worker, order = Worker("test", 10), []
    await asyncio.gather(
        *(worker.run(lambda k=k: order.append((k, threading.get_ident()))) for k in range(10))
    )
    assert [k for k, _ in order] == list(range(10))
    assert len({thread for _, thread in order}) == 1
    worker.close()


async def test_a_full_queue_refuses_and_recovers() -> None:
    worker, gate = Worker("test", 2), threading.Event()
    waiting = [asyncio.create_task(worker.run(gate.wait)) for _ in range(2)]
    await until(lambda: worker._pending == 2)
    with pytest.raises(QueueFull, match="limit is 2"):
        await worker.run(gate.wait)
    gate.set()
    await asyncio.gather(*waiting)
    assert await worker.run(lambda: 7) == 7
    worker.close()


async def test_a_cancelled_wait_still_holds_its_place_until_the_work_is_done() -> None:
    worker, gate, started = Worker("test", 1), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait()

    task = asyncio.create_task(worker.run(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(QueueFull):
        await worker.run(lambda: None)
    gate.set()
    await asyncio.to_thread(worker.close)
    await until(lambda: worker._pending == 0)


async def test_errors_come_back_to_the_caller() -> None:
    worker = Worker("test", 1)
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(lambda: 1) == 1
    worker.close()

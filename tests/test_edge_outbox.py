"""Which frame leaves next: order within a camera, fairness between cameras, bounds on memory and places."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from outbox_bench import PLACES, bench

from edge.outbox import READ_AHEAD
from edge.spool import Spool
from edge.spool_policy import SpoolLimits
from edge.uplink import OutgoingFrame
from splitcodec.errors import SpoolFull


async def test_memory_and_disk_are_one_queue_per_camera(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(1, 2)
        box.add(3)
        await box.keep(4)
        box.add(5)
        await box.open()
        assert [await box.next() for _ in range(5)] == [("door", seq) for seq in range(1, 6)]


async def test_a_frame_that_must_be_on_disk_first_keeps_later_ones_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.open()
        entry = box.add(1, wait=False)
        box.add(2)
        assert await box.nothing_next()
        await box.outbox.keep(entry)
        assert [await box.next(), await box.next()] == [("door", 1), ("door", 2)]


async def test_a_frame_nobody_waits_for_any_more_keeps_its_turn(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(2, 3)
        late = box.outbox.add(OutgoingFrame("box", "yard", 1, "detect", 1, b""), wait=True)
        await box.keep(2, 3, camera="yard")
        await box.open()
        await box.outbox.keep(late)
        order = [await box.next() for _ in range(5)]
        assert [seq for camera, seq in order if camera == "yard"] == [1, 2, 3]


async def test_what_a_full_disk_refused_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    async with bench(tmp_path, SpoolLimits(80 * 1024, 86_400)) as box:
        await box.open()
        lost = box.outbox.add(OutgoingFrame("box", "door", 1, "detect", 1, b"x" * 100_000), wait=False)
        with pytest.raises(SpoolFull):
            await box.outbox.keep(lost)
        box.add(2)
        assert await box.next() == ("door", 2)


async def test_an_ack_settles_all_frames_of_its_camera_up_to_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(1, 2, 3)
        await box.keep(1, camera="yard")
        await box.open()
        for _ in range(4):
            await box.next()
        assert box.ack(2) == [1, 2]
        await box.outbox.stop()
        assert box.spool.depth.frames == 2
        box.outbox.closed("cut")
        await box.open()
        assert sorted([await box.next(), await box.next()]) == [("door", 3), ("yard", 1)]


async def test_everything_unacknowledged_is_sent_again_after_the_stream_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(1, 2)
        await box.open()
        waiting = box.add(3)
        first = [await box.next() for _ in range(3)]
        box.outbox.closed("cut")
        await box.outbox.keep(waiting)
        await box.open()
        assert [await box.next() for _ in range(3)] == first


async def test_a_backlog_does_not_starve_a_camera_with_fresh_frames(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(*range(100), camera="old")
        await box.open()
        for seq in range(40):
            box.add(seq, "live")
            await box.next()
            for camera, last in (("old", 99), ("live", seq)):
                box.ack(last, camera)
        cameras = [camera for camera, _ in box.sent]
        assert 28 <= cameras.count("live") <= 32
        assert cameras.count("old") == 40 - cameras.count("live")


async def test_a_backlog_leaves_places_free_for_a_camera_with_fresh_frames(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(*range(100), camera="old")
        await box.open()
        box.add(1, "live")
        sent = [await box.next(8) for _ in range(3)]
        assert sent.count(("live", 1)) == 1
        assert await box.nothing_next(8)  # two of eight places for the backlog, the rest stays free
        box.add(2, "live")
        assert await box.next(8) == ("live", 2)


async def test_a_backlog_alone_takes_every_place(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(*range(30))
        await box.open()
        assert [await box.next() for _ in range(PLACES)] == [("door", seq) for seq in range(PLACES)]
        assert await box.nothing_next()
        box.ack(0)
        assert await box.next() == ("door", PLACES)


async def test_cameras_with_a_backlog_take_turns(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        for camera in ("a", "b", "c"):
            await box.keep(*range(5), camera=camera)
        await box.open()
        sent = [await box.next() for _ in range(9)]
        assert all([camera for camera, _ in sent].count(name) == 3 for name in ("a", "b", "c"))


async def test_memory_does_not_grow_with_the_backlog(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(*range(300))
        await box.open()
        for _ in range(100):
            _, seq = await box.next()
            box.ack(seq)
            assert box.in_memory() <= READ_AHEAD


async def test_frames_that_only_pass_the_disk_are_not_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    take = Spool.take

    def counted(*arguments: object) -> list[OutgoingFrame]:
        nonlocal reads
        reads += 1
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "take", counted)
    async with bench(tmp_path) as box:
        await box.open()
        for seq in range(20):
            await box.keep(seq)
            assert await box.next() == ("door", seq)
            box.ack(seq)
        await box.outbox.stop()
        assert box.spool.depth.frames == 0
    assert reads == 0


async def test_the_backlog_is_what_is_on_disk_and_not_on_the_stream(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(*range(5))  # of 100 bytes
        await box.open()
        assert box.outbox.backlog_bytes() == 500
        await box.next()
        await box.next()
        assert box.outbox.backlog_bytes() == 300
        box.ack(0)
        await box.outbox.stop()
        assert box.outbox.backlog_bytes() == 300
        box.outbox.closed("cut")
        assert box.outbox.backlog_bytes() == 400


async def test_a_refused_camera_pauses_and_the_others_go_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.keep(1, 2)
        await box.open()
        await box.next()
        box.refuse(1)
        box.outbox.closed("refused")
        await box.open()
        box.add(1, "yard")
        assert await box.next() == ("yard", 1)
        assert await box.nothing_next()
        waiting = box.add(3)
        said = await box.outbox.wait(waiting, 10)  # at once
        assert "PackMismatch: deploy" in str(said)


async def test_clients_stop_waiting_when_the_cloud_goes_away(tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.open()
        waiting = asyncio.create_task(box.outbox.wait(box.add(1), 60))
        await box.next()
        box.outbox.closed("the link is cut")
        box.outbox.give_no_hope("the link is cut")
        assert await asyncio.wait_for(waiting, 10) == "the link is cut"
        assert await box.outbox.wait(box.add(2), 60) == "the link is cut"


async def test_a_disk_that_fails_is_told_again_what_was_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    async with bench(tmp_path) as box:
        await box.keep(1)
        await box.open()
        await box.next()

        def fail(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "settle", fail)
            box.ack(1)
            await box.outbox.stop()
        assert box.spool.depth.frames == 1
        await box.outbox.tend(expire=False)
        assert box.spool.depth.frames == 0

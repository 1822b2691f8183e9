"""The spool on its disk: what is kept, what leaves, and what survives damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_spool import DOOR, Kept, kept, outgoing

from edge.spool import ROW_BYTES
from edge.spool_file import SPOOL_FILE
from edge.spool_policy import SpoolLimits
from splitcodec.damaged import KEPT_DAMAGED_FILES
from splitcodec.errors import SpoolFull, SpoolUnavailable

__all__ = ["kept"]

SMALL = 400 * 1024  # bytes: about 90 frames of 4 kB


def test_what_was_committed_is_there_after_a_crash(kept: Kept) -> None:
    frames = [outgoing(seq) for seq in range(5)]
    kept.put(frames)
    kept.reopen(crash=True)
    with kept.spool.transaction():
        assert kept.spool.take(DOOR, -1, 10) == frames
    assert (kept.spool.depth.frames, kept.spool.depth.num_bytes) == (5, 500)


def test_every_commit_reaches_the_disk(kept: Kept) -> None:
    connection = kept.spool._open()
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_transaction_that_fails_keeps_nothing(kept: Kept) -> None:
    def half_done() -> None:
        with kept.spool.transaction():
            kept.spool.put(outgoing(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_done()
    assert kept.seqs() == []
    assert kept.spool.depth.frames == 0


def test_frames_of_a_camera_come_in_order_of_seq(kept: Kept) -> None:
    kept.put([outgoing(seq) for seq in (5, 3, 9)] + [outgoing(1, "yard")])
    assert kept.seqs() == [3, 5, 9]
    assert kept.seqs(after=3, limit=1) == [5]
    with kept.spool.transaction():
        assert kept.spool.lanes() == {DOOR: 9, ("box", "yard"): 1}


def test_acknowledged_frames_go(kept: Kept) -> None:
    kept.put([outgoing(seq) for seq in range(4)])
    with kept.spool.transaction():
        kept.spool.settle(DOOR, [0, 1, 3])
    assert kept.seqs() == [2]
    assert kept.fate(2) == ("spooled", "")
    assert kept.fate(1) is None


@pytest.mark.parametrize(
    "column", ["bitstream = x'00'", "seq = seq + 100", "task = 'other'", "crc = crc + 1"]
)
def test_a_damaged_row_is_quarantined_and_the_rest_goes_on(kept: Kept, column: str) -> None:
    kept.put([outgoing(seq) for seq in range(3)])
    assert kept.edit(f"UPDATE frames SET {column} WHERE seq = 1") == 1
    assert kept.seqs() == [0, 2]
    assert kept.counted("quarantined", "damaged") == 1
    assert kept.spool.depth.frames == 2
    assert kept.seqs() == [0, 2]
    assert kept.counted("quarantined", "damaged") == 1  # once


def test_a_full_spool_that_rejects_keeps_what_it_has(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400))
    taken = kept.fill()
    assert 60 < taken < 100
    assert kept.seqs() == list(range(taken))
    with kept.spool.transaction():
        kept.spool.settle(DOOR, range(10))
    kept.put([outgoing(taken)])
    kept.spool.close()


def test_drop_oldest_makes_room_and_says_what_went(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    taken = kept.fill()
    left = kept.seqs()
    assert left == list(range(left[0], taken))
    assert kept.counted("dropped", "oldest") == left[0] > 0
    assert kept.fate(0) == ("dropped", "oldest")
    kept.spool.close()


def test_thinning_keeps_every_nth_frame_and_those_with_detections_longer(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "thin", keep_every=3))
    kept.put([outgoing(seq, "yard", 4000) for seq in range(12)], worth=2)
    kept.fill()
    left = kept.seqs()
    assert left[:5] == [0, 3, 6, 9, 12]
    assert kept.seqs(("box", "yard")) == list(range(12))
    assert kept.counted("dropped", "thinned") == kept.counted("dropped")
    kept.spool.close()


def test_what_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    kept.put([outgoing(seq, num_bytes=4000) for seq in range(20)])
    assert kept.seqs(limit=8) == list(range(8))
    kept.fill(start=20)
    assert kept.seqs(limit=9)[:8] == list(range(8))
    assert kept.fate(8) == ("dropped", "oldest")
    kept.spool.close()


def test_frames_too_old_are_dropped_by_running_time(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(2**30, 100.0))
    kept.put([outgoing(0)])
    kept.clock.now += 60
    kept.put([outgoing(1)])
    kept.reopen()  # the clock stands still while the edge is off, whatever the wall clock does
    kept.clock.now += 50
    with kept.spool.transaction():
        kept.spool.expire()
    assert kept.seqs() == [1]
    assert kept.counted("dropped", "age") == 1
    kept.spool.close()


def test_a_frame_larger_than_the_spool_drops_nobody(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    kept.put([outgoing(seq) for seq in range(5)])
    with pytest.raises(SpoolFull, match=str(SMALL + ROW_BYTES)):
        kept.put([outgoing(9, num_bytes=SMALL)])
    assert kept.seqs() == list(range(5))
    kept.spool.close()


def test_a_disk_without_space_refuses_and_recovers(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put([outgoing(0)])
    with monkeypatch.context() as patch:
        patch.setattr("edge.spool.disk_free", lambda *_: 0)
        with pytest.raises(SpoolFull):
            kept.put([outgoing(1)])
    kept.put([outgoing(2)])
    assert kept.seqs() == [0, 2]


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / SPOOL_FILE).write_bytes(b"not a database at all" * 1000)
    kept = Kept(tmp_path)
    kept.put([outgoing(1)])
    assert kept.seqs() == [1]
    assert "damaged" in kept.spool.note
    assert len(list(tmp_path.glob("spool.damaged-*.sqlite3"))) == 1
    assert kept.registry.get_sample_value("splitcodec_edge_spool_damaged_files_total") == 1
    kept.spool.close()


def test_a_file_of_a_newer_version_is_not_misread(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.spool.close()
    kept.edit("PRAGMA user_version = 9")
    kept.reopen(crash=True)
    kept.put([outgoing(1)])
    assert "schema version 9" in kept.spool.note
    kept.spool.close()


def test_sound_rows_of_a_torn_file_are_saved_and_the_others_counted(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    frames = [outgoing(seq, num_bytes=4000) for seq in range(200)]
    kept.put(frames)
    kept.spool.close()
    data = bytearray(kept.path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8 * 4096] = b"\xa5" * (8 * 4096)
    kept.path.write_bytes(data)
    kept.reopen(crash=True)
    found: list[int] = []
    for _ in range(3):  # the first call meets the damage
        try:
            found = kept.seqs()
            break
        except SpoolUnavailable:
            continue
    assert found == sorted(found)
    assert 180 < len(found) < 200
    assert {0, 199} <= set(found)
    assert kept.counted("quarantined", "damaged") == 200 - len(found)
    kept.put([outgoing(500)])
    assert kept.seqs()[-1] == 500
    kept.spool.close()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    for _ in range(4):
        (tmp_path / SPOOL_FILE).write_bytes(b"\x00garbage" * 100)
        kept = Kept(tmp_path)
        kept.spool.close()
        kept.path.unlink()
    assert len(list(tmp_path.glob("spool.damaged-*.sqlite3"))) == KEPT_DAMAGED_FILES


def test_a_disk_that_cannot_be_opened_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / SPOOL_FILE).mkdir()
    kept = Kept(tmp_path)
    with pytest.raises(SpoolUnavailable):
        kept.put([outgoing(1)])
    assert "cannot be opened" in kept.spool.note
    (tmp_path / SPOOL_FILE).rmdir()
    kept.clock.now += 10
    kept.put([outgoing(1)])
    assert (kept.seqs(), kept.spool.note) == ([1], "")
    kept.spool.close()


def test_nothing_to_expire_is_no_error(kept: Kept) -> None:
    kept.put([outgoing(1)])
    with kept.spool.transaction():
        kept.spool.expire()
    assert kept.seqs() == [1]


def test_quarantined_bitstreams_give_way_to_frames(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400))
    taken = kept.fill()
    with kept.spool.transaction():
        for seq in range(20):
            kept.spool.quarantine(DOOR, seq, "refused", "no such task")
    assert kept.counted("quarantined", "refused") == 20
    kept.put([outgoing(taken, num_bytes=4000)])
    assert kept.fate(3) == ("quarantined", "no such task")
    kept.spool.close()

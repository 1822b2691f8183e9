"""A bit that flips in the spool's file while the edge is off costs the frame it sits in, at most."""

from __future__ import annotations

import errno
import random
import sqlite3
from pathlib import Path

import pytest
from kept_spool import Kept, outgoing

from splitcodec.errors import SpoolUnavailable
from splitcodec.first_page import CHANGES, PAGE_BYTES

CAMERAS = ("door", "hall", "yard")
FRAMES = 600


def filled(folder: Path) -> Kept:
    """A spool with frames of three cameras, closed, its log written back."""
    kept = Kept(folder)
    kept.put([outgoing(seq, CAMERAS[seq % 3], 300) for seq in range(FRAMES)])
    kept.spool.close()
    kept.edit("PRAGMA wal_checkpoint(TRUNCATE)")
    return kept


def flip(kept: Kept, page: int, dice: random.Random) -> None:
    """One bit in a page of the file."""
    data = bytearray(kept.path.read_bytes())
    data[page * PAGE_BYTES + dice.randrange(PAGE_BYTES)] ^= 1 << dice.randrange(8)
    kept.path.write_bytes(data)


def index_pages(kept: Kept) -> list[int]:
    """The pages of the index of frames: its root, and what that points to."""
    connection = sqlite3.connect(kept.path)
    query = "SELECT rootpage - 1 FROM sqlite_master WHERE name = 'sqlite_autoindex_frames_1'"
    (root,) = connection.execute(query).fetchone()
    connection.close()
    page = kept.path.read_bytes()[root * PAGE_BYTES :][:PAGE_BYTES]
    assert page[0] == 2, "the index fits into its root; take more frames"
    pointers = (int.from_bytes(page[at : at + 2], "big") for at in range(12, 12 + 2 * page[4], 2))
    children = [int.from_bytes(page[at : at + 4], "big") for at in (*pointers, 8)]
    return [root, *(child - 1 for child in children)]


def drained(kept: Kept) -> set[int]:
    """Every frame that leaves when all that is found is sent, and sent again after an error."""
    found: set[int] = set()
    for _ in range(20):
        try:
            with kept.spool.transaction():
                lanes = kept.spool.lanes()
            moved = False
            for lane in lanes:
                with kept.spool.transaction():
                    frames = kept.spool.take(lane, -1, FRAMES)
                    kept.spool.settle(lane, [frame.seq for frame in frames])
                found |= {frame.seq for frame in frames}
                moved = moved or bool(frames)
        except SpoolUnavailable:
            continue
        if not moved:
            return found
    raise AssertionError(f"the spool does not come to rest; {kept.spool.note}")


@pytest.mark.parametrize("seed", range(25))
def test_a_bit_in_the_index_costs_no_frame(tmp_path: Path, seed: int) -> None:
    kept, dice = filled(tmp_path), random.Random(seed)
    flip(kept, dice.choice(index_pages(kept)), dice)
    kept.reopen(crash=True)
    assert drained(kept) == set(range(FRAMES))
    assert kept.spool.depth.frames == 0
    kept.spool.close()


@pytest.mark.parametrize("seed", range(25))
def test_a_bit_in_the_header_or_the_schema_costs_no_frame(tmp_path: Path, seed: int) -> None:
    kept, dice = filled(tmp_path), random.Random(seed)
    before = kept.path.read_bytes()
    flip(kept, 0, dice)
    while any(kept.path.read_bytes()[one] != before[one] for one in CHANGES):  # these are taken as they are
        kept.path.write_bytes(before)
        flip(kept, 0, dice)
    kept.reopen(crash=True)
    assert drained(kept) == set(range(FRAMES))
    kept.put([outgoing(FRAMES)])
    assert kept.seqs() == [FRAMES]
    kept.spool.close()


@pytest.mark.parametrize("seed", range(25))
def test_a_bit_anywhere_costs_what_is_named(tmp_path: Path, seed: int) -> None:
    kept, dice = filled(tmp_path), random.Random(seed)
    flip(kept, dice.randrange(kept.path.stat().st_size // PAGE_BYTES), dice)
    kept.reopen(crash=True)
    missing = set(range(FRAMES)) - drained(kept)
    assert len(missing) <= kept.counted("quarantined", "damaged")
    for seq in missing:
        found = kept.fate(seq, CAMERAS[seq % 3])
        assert found is not None
        assert found[0] == "quarantined"
    kept.spool.close()


def test_a_count_that_is_wrong_is_damage(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    kept.edit("UPDATE totals SET frames = frames + 1")
    kept.reopen(crash=True)
    assert f"{FRAMES} frames are here, {FRAMES + 1} were counted" in kept.spool.note
    assert kept.spool.depth.frames == FRAMES
    assert drained(kept) == set(range(FRAMES))
    kept.spool.close()


def test_a_sound_spool_is_left_as_it_is_whatever_has_happened_to_it(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    for round_number in range(3):
        kept.reopen(crash=bool(round_number))
        with kept.spool.transaction():
            frames = kept.spool.take(("box", "hall"), -1, 10)
            kept.spool.settle(("box", "hall"), [frame.seq for frame in frames])
            kept.spool.quarantine(("box", "door"), 3 * round_number, "refused", "for good")
        kept.put([outgoing(1000 + round_number, "hall")])
    kept.reopen()
    assert kept.spool.note == ""
    assert not list(tmp_path.glob("*.damaged-*"))
    assert kept.spool.depth.frames == FRAMES - 30 - 3 + 3
    kept.spool.close()


def test_a_file_that_was_rebuilt_is_another_one_not_damaged(tmp_path: Path) -> None:
    """What an operator may do while the edge is off: it moves what the first page points to."""
    kept = filled(tmp_path)
    for statement in (
        "VACUUM",
        "DROP INDEX fates_by_frame; CREATE INDEX fates_by_frame ON fates (camera, seq)",
    ):
        before = kept.path.read_bytes()[:PAGE_BYTES]
        connection = sqlite3.connect(kept.path)
        connection.executescript(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        assert kept.path.read_bytes()[:PAGE_BYTES] != before
        kept.reopen(crash=True)
        assert kept.spool.note == ""
        assert kept.seqs(("box", "hall")) == list(range(1, FRAMES, 3))
        kept.spool.close()
        kept.edit("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (
            kept.path.with_name(kept.path.name + "-first-page").read_bytes()[40:44]
            == kept.path.read_bytes()[40:44]
        )
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_disk_that_takes_no_copy_of_the_first_page_is_no_reason_to_leave_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = filled(tmp_path)
    kept.path.with_name(kept.path.name + "-first-page").unlink()  # as of an edge that was updated
    monkeypatch.setattr("splitcodec.first_page.write_durably", full)
    kept.reopen()
    assert kept.spool.note == ""
    assert drained(kept) == set(range(FRAMES))
    kept.spool.close()


def test_a_damaged_copy_of_the_first_page_harms_nothing(tmp_path: Path) -> None:
    kept = filled(tmp_path)
    copy = kept.path.with_name(kept.path.name + "-first-page")
    sound = copy.read_bytes()
    for at in (100, 2000, len(sound) - 1):
        damaged = bytearray(sound)
        damaged[at] ^= 4
        copy.write_bytes(damaged)
        kept.reopen()
        assert kept.spool.depth.frames == FRAMES
        kept.spool.close()
        assert len(copy.read_bytes()) == len(sound)
        assert copy.read_bytes() != damaged
    assert not list(tmp_path.glob("*.damaged-*"))

"""Name and numbers survive what happens to their files: the spool's database, its log, the second copy."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kept_spool import Kept, outgoing
from test_edge_state import NOON, name_of, opened, run_once

from edge import identity
from edge.identity import Identity
from edge.spool_file import SPOOL_FILE
from edge.state import BLOCK
from splitcodec.errors import SpoolUnavailable

LONG_AGO = 5.0  # a clock that went back: it guards nothing


def drop_database(folder: Path) -> None:
    (folder / SPOOL_FILE).unlink()


def overwrite_database(folder: Path) -> None:
    (folder / SPOOL_FILE).write_bytes(b"\xa5" * 8192)


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / SPOOL_FILE)) as connection, connection:
        connection.execute(statement)


def change_ceiling(folder: Path) -> None:
    edit(folder, "UPDATE identity SET ceiling = 7")


def change_name(folder: Path) -> None:
    edit(folder, "UPDATE identity SET device = 'other'")


def empty_identity(folder: Path) -> None:
    edit(folder, "DELETE FROM identity")


def drop_numbers(folder: Path) -> None:
    (folder / "numbers").unlink()


def flip_numbers(folder: Path) -> None:
    data = (folder / "numbers").read_bytes()
    (folder / "numbers").write_bytes(b"1" + data)


def empty_numbers(folder: Path) -> None:
    (folder / "numbers").write_bytes(b"")


def drop_name(folder: Path) -> None:
    (folder / "device").unlink()


def damage_name(folder: Path) -> None:
    (folder / "device").write_bytes(b"\xffa b")


def change_name_file(folder: Path) -> None:
    (folder / "device").write_bytes(b"other")


DATABASE = (drop_database, overwrite_database, change_ceiling, change_name, empty_identity)
COPY = (drop_numbers, flip_numbers, empty_numbers, drop_name, damage_name, change_name_file)


@pytest.mark.parametrize("damage", [*DATABASE, *COPY])
async def test_damage_to_one_place_repeats_no_number_and_renames_nobody(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with opened(tmp_path) as state:
        device, before = state.device, [state.next_seq("gate") for _ in range(3)]
    damage(tmp_path)
    async with opened(tmp_path, LONG_AGO) as state:
        assert state.device == device
        after = [state.next_seq("gate") for _ in range(3)]
    assert before[-1] < after[0] < before[-1] + 2 * BLOCK
    drop_database(tmp_path)  # the other place was made whole again
    async with opened(tmp_path, LONG_AGO) as state:
        assert state.device == device
        assert state.next_seq("gate") > after[-1]


def tear(path: Path) -> None:
    """Damage the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xa5" * (8 * 4096))


@pytest.mark.parametrize("readable", [True, False])
def test_a_file_that_replaces_a_damaged_one_has_name_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """Both where they can be read of the damaged file, and where the running edge still knows them."""
    kept = Kept(tmp_path)
    known = Identity("box", 500)
    with kept.spool.transaction():
        kept.spool.identify(known)
    kept.put([outgoing(seq, num_bytes=4000) for seq in range(200)])
    kept.spool.close()
    if readable:  # found when it is opened
        tear(kept.path)
        kept.reopen(crash=True)
    else:  # found while it is in use
        kept.reopen(crash=True)
        with kept.spool.transaction():
            kept.spool.identify(known)
        kept.spool.connection.execute("PRAGMA shrink_memory")  # what SQLite still knows of the file
        tear(kept.path)
        monkeypatch.setattr("edge.spool_file.identity.read", lambda _: None)
        with pytest.raises(SpoolUnavailable):
            kept.seqs()
    monkeypatch.undo()
    assert "taken over" in kept.spool.note
    with kept.spool.transaction():
        assert identity.read(kept.spool.connection) == known
        assert identity.highest_seq(kept.spool.connection) == 199
    kept.spool.close()


async def test_both_places_lost_repeat_no_number_as_long_as_time_passes(tmp_path: Path) -> None:
    before = await run_once(tmp_path, 3)
    drop_numbers(tmp_path)
    drop_database(tmp_path)
    assert min(await run_once(tmp_path, 3, NOON + 1)) > max(before)


async def test_a_database_shorn_of_the_end_of_its_log_repeats_no_number(tmp_path: Path) -> None:
    """SQLite takes a log with a damaged end for a shorter one, and says nothing."""
    await run_once(tmp_path, 1, LONG_AGO)
    older = (tmp_path / SPOOL_FILE).read_bytes()
    before = await run_once(tmp_path, 3 * BLOCK, LONG_AGO)
    (tmp_path / SPOOL_FILE).write_bytes(older)
    assert min(await run_once(tmp_path, 3, LONG_AGO)) > max(before)


def old_state(**changed: object) -> bytes:
    state = {"format": 1, "device": "old-box", "reserved": {"gate": 7_000_000, "yard": 9_000_000}}
    return json.dumps(state | changed).encode()


async def test_an_older_edge_s_file_is_taken_over_once(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(old_state())
    async with opened(tmp_path, LONG_AGO) as state:
        assert (state.device, state.next_seq("gate"), state.next_seq("new")) == (
            "old-box", 9_000_000, 9_000_000,
        )  # fmt: skip
    assert not (tmp_path / "state.json").exists()
    for part in (drop_numbers, drop_name):
        part(tmp_path)
    async with opened(tmp_path, LONG_AGO) as state:
        assert state.device == "old-box"
        assert state.next_seq("gate") >= 9_000_000 + BLOCK


async def test_an_older_edge_s_file_stays_until_it_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state.json").write_bytes(old_state())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge.identity.keep", full)
        assert await run_once(tmp_path, 1, LONG_AGO) == [9_000_000]
    assert (tmp_path / "state.json").exists()
    assert (await run_once(tmp_path, 1, LONG_AGO))[0] > 9_000_000
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        old_state(device="a b"),
        old_state(reserved={"gate": -1}),
        old_state(reserved={"gate": 2**63}),
        old_state(format=9),
    ],
)
async def test_a_damaged_file_of_an_older_edge_is_moved_aside_and_reported(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.json").write_bytes(content)
    (tmp_path / "device").write_text("old-box")
    assert await run_once(tmp_path, 1) == [int(NOON * 1000)]
    assert (tmp_path / "state.damaged").read_bytes() == content
    assert "is damaged" in caplog.text
    assert await name_of(tmp_path) == "old-box"

"""A damaged result database: moved aside and reported, what can be read is kept, the service is up."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from test_cloud_store import key, result, seqs

from cloud.reads import Filter
from cloud.store import DATABASE_FILE, Committed, ResultStore
from splitcodec.errors import CursorOutOfRange, ResultRetired, StoreUnavailable
from splitcodec.first_page import CHANGES
from splitcodec.wire.v1.results_pb2 import WatchResultsRequest

EVERYTHING = Filter()


def filled(folder: Path, frames: int = 40) -> Path:
    """The file of a store that was closed well."""
    store = ResultStore(folder)
    store.put([result(seq, padding=3000) for seq in range(frames)])
    store.put([result(7, "yard")])
    store.close()
    return folder / DATABASE_FILE


def spoil_count(path: Path) -> None:
    """Damage every page of tables and indexes that the count of results may walk over, but the first page."""
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        if data[page] in (0x02, 0x0A):  # pages of indexes
            data[page : page + 64] = b"\xa5" * 64
    path.write_bytes(data)


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_moved_aside_and_a_new_one_serves(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(content)
    with caplog.at_level(logging.ERROR):
        store = ResultStore(tmp_path)
    (aside,) = tmp_path.glob("results.damaged-*.sqlite3")
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    assert store.damaged_files == 1
    (committed,) = store.put([result(1)])
    assert isinstance(committed, Committed)
    store.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_bit_in_the_header_or_the_schema_costs_nothing(tmp_path: Path, seed: int) -> None:
    path, dice = filled(tmp_path), random.Random(seed)
    data = bytearray(path.read_bytes())
    taken_as_they_are = {at for one in CHANGES for at in range(one.start, one.stop)}
    at = dice.choice([at for at in range(4096) if at not in taken_as_they_are])
    data[at] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    store = ResultStore(tmp_path)
    assert (store.damaged_files, store.size().results) == (0, 41)
    assert seqs(store, Filter(camera="yard")) == [7]
    assert isinstance(store.put([result(100)])[0], Committed)
    store.close()


def test_a_database_that_was_vacuumed_is_another_one_not_damaged(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store = ResultStore(tmp_path)
    assert (store.damaged_files, store.size().results) == (0, 41)
    assert seqs(store, Filter(camera="yard")) == [7]
    store.close()


def test_what_can_be_read_is_saved_with_new_cursors(tmp_path: Path) -> None:
    spoil_count(filled(tmp_path))
    store = ResultStore(tmp_path)
    assert store.damaged_files == 1
    assert seqs(store, Filter(camera="yard")) == [7]
    assert seqs(store) == [*range(40), 7]
    with pytest.raises(CursorOutOfRange):
        store.check_gap(EVERYTHING, 5)
    with pytest.raises(CursorOutOfRange):
        store.check_gap(Filter("box", "door"), 41)
    begin = store.oldest_position(EVERYTHING)
    assert [one.key.seq for one in store.tail(EVERYTHING, begin, 1000).results] == [*range(40), 7]
    store.close()


def test_a_frame_of_before_is_not_stored_anew(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE results SET result = x'ff00' WHERE seq = 20")
    connection.close()
    spoil_count(path)
    store = ResultStore(tmp_path)
    kept, lost, fresh, other = store.put([result(19), result(20), result(40), result(1, "gate")])
    assert isinstance(kept, Committed)
    assert kept.repeated
    assert isinstance(lost, ResultRetired)
    assert isinstance(fresh, Committed)
    assert isinstance(other, Committed)
    assert store.find(key(20)) is None
    store.close()


def test_damage_that_shows_later_costs_one_commit(tmp_path: Path) -> None:
    path = filled(tmp_path, frames=400)
    store = ResultStore(tmp_path)
    assert len(seqs(store)) == 401  # a reader has the old file open
    spoil_count(path)
    store._writer.execute("PRAGMA shrink_memory")  # what it has read of the sound file
    with pytest.raises(StoreUnavailable, match="malformed"):
        store.put([result(400)])
    assert store.damaged_files == 1
    store.put([result(seq) for seq in range(400, 500)])
    assert seqs(store, Filter(camera="door")) == list(range(500))
    store.close()


def test_a_second_damage_gives_higher_cursors_again(tmp_path: Path) -> None:
    path = filled(tmp_path)
    begins = []
    for _ in range(2):
        spoil_count(path)
        store = ResultStore(tmp_path)
        begins.append(store.newest())
        store.close()
    assert begins[1] > begins[0] > 10**15
    assert len(list(tmp_path.glob("results.damaged-*.sqlite3"))) == 2


async def test_the_service_is_up_and_tells(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
    (path,) = tmp_path.rglob(DATABASE_FILE)
    path.write_bytes(b"x" * 5000)
    async with running(tmp_path) as cloud:
        assert cloud.metric("splitcodec_cloud_store_damaged_files") == 1
        again = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        assert not again.repeated_frame
        watch = cloud.results.Watch(WatchResultsRequest(after_cursor=1), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        anew = cloud.results.Watch(WatchResultsRequest(after_cursor=0), timeout=PATIENCE_S)
        assert (await anew.read()).result == again.result
        anew.cancel()

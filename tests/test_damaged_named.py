"""What a damaged database lost is counted and named, on the edge and in the cloud; nobody waits for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from kept_spool import DOOR, Kept, outgoing
from test_cloud_store import key, result, seqs

from cloud.reads import Filter
from cloud.store import DATABASE_FILE, ResultStore
from splitcodec.errors import SpoolUnavailable, StoreUnavailable
from splitcodec.wire.v1.results_pb2 import WatchResultsRequest

PAGE = 4096
LOST = "its row in the spool was damaged, and is lost"


def tear_rows(path: Path, pages: int) -> None:
    """Overwrite pages of rows in the middle of the file; the indexes stay whole."""
    data = bytearray(path.read_bytes())
    leaves = [at for at in range(PAGE, len(data), PAGE) if data[at] == 0x0D]
    for at in leaves[len(leaves) // 2 :][:pages]:
        data[at : at + PAGE] = b"\xa5" * PAGE
    path.write_bytes(data)


def test_the_edge_names_the_frames_whose_rows_are_gone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put([outgoing(seq, num_bytes=700) for seq in range(200)])
    kept.spool.close()
    tear_rows(kept.path, 3)
    kept.reopen(crash=True)
    found = set(kept.seqs())
    lost = set(range(200)) - found
    assert 5 < len(lost) < 60
    assert kept.counted("quarantined", "damaged") == len(lost)
    assert {seq for seq in range(200) if kept.fate(seq) != ("spooled", "")} == lost
    assert all(kept.fate(seq) == ("quarantined", LOST) for seq in lost)
    assert kept.seqs(DOOR) == sorted(found)
    kept.spool.close()


def test_frames_named_once_stay_named_over_the_next_damage(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put([outgoing(seq) for seq in range(3)])
    with kept.spool.transaction():
        kept.spool.quarantine(DOOR, 1, "refused", "no such task")
    kept.put([outgoing(seq, num_bytes=700) for seq in range(3, 200)])
    kept.spool.close()
    tear_rows(kept.path, 3)
    kept.reopen(crash=True)
    assert "taken over" in kept.spool.note
    assert kept.fate(1) == ("quarantined", "no such task")
    kept.spool.close()


def test_a_frame_that_the_index_does_not_find_is_damage_and_is_found_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put([outgoing(seq) for seq in range(20)])
    kept.reopen()
    kept.spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept.spool.connection.execute("PRAGMA shrink_memory")  # what SQLite still knows of the file
    data = bytearray(kept.path.read_bytes())
    for page in range(PAGE, len(data), PAGE):
        if data[page] == 0x0A and (at := data.find(b"boxdoor", page, page + PAGE)) > 0:
            data[at : at + 3] = b"zox"
    kept.path.write_bytes(data)
    with pytest.raises(SpoolUnavailable), kept.spool.transaction():
        kept.spool.settle(DOOR, range(20))
    with kept.spool.transaction():
        kept.spool.settle(DOOR, range(20))
    assert kept.spool.depth.frames == 0
    kept.spool.close()


def filled(folder: Path, frames: int = 60) -> Path:
    store = ResultStore(folder)
    store.put([result(seq, padding=3000) for seq in range(frames)])
    store.close()
    return folder / DATABASE_FILE


def test_the_cloud_names_the_results_whose_rows_are_gone(tmp_path: Path) -> None:
    tear_rows(filled(tmp_path), 2)
    store = ResultStore(tmp_path)
    for _ in range(2):
        try:
            found = seqs(store)
        except StoreUnavailable as error:
            store.mend(error, store.life)
    (names,) = tmp_path.glob("results.damaged-*.lost")
    lost = sorted(set(range(60)) - set(found))
    assert lost
    assert names.read_text().splitlines() == [f"box door {seq}" for seq in lost]
    assert store.lost == len(lost)
    store.close()


def test_a_database_is_mended_once_for_all_who_met_the_damage(tmp_path: Path) -> None:
    tear_rows(filled(tmp_path), 2)
    store, life, damage = ResultStore(tmp_path), 0, None
    try:
        seqs(store)
    except StoreUnavailable as error:
        damage = error
    assert damage is not None
    newest = store.mend(damage, life)
    assert store.mend(damage, life) == newest > 10**15
    assert store.damaged_files == 1
    store.close()


def test_a_flipped_bit_in_a_result_is_not_handed_to_anybody(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put([result(1), result(2)])
    store._writer.execute("UPDATE results SET output = x'0801' || output WHERE seq = 2")
    assert store.find(key(1)) is not None
    with pytest.raises(StoreUnavailable, match="cursor 2 is damaged"):
        store.read(Filter(), 0, 10)
    bare = store.read(Filter(), 0, 10, without_output=True).results
    assert [one.key.seq for one in bare] == [1, 2]
    store.close()


async def test_a_reader_who_meets_damage_begins_anew_and_gets_the_rest(tmp_path: Path) -> None:
    """Nothing is written meanwhile: it is the reader's damage that has the database replaced."""
    async with running(tmp_path) as cloud:
        for seq in (1, 2, 3):
            await cloud.ingest.Infer(infer_request(seq), timeout=PATIENCE_S)
        (path,) = tmp_path.rglob(DATABASE_FILE)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE results SET result = x'ff' || result WHERE seq = 2")
        watch = cloud.results.Watch(WatchResultsRequest(after_cursor=0), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        again = cloud.results.Watch(WatchResultsRequest(after_cursor=1), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await again.read()
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        anew = cloud.results.Watch(WatchResultsRequest(after_cursor=0), timeout=PATIENCE_S)
        assert [(await anew.read()).result.key.seq for _ in range(2)] == [1, 3]
        anew.cancel()
        assert cloud.metric("splitcodec_cloud_store_lost_results") == 1

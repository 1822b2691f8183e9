"""The result store by itself: durability settings, order, idempotency, retention, pages."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cloud.messages import FrameKey
from cloud.reads import MAX_PAGE_BYTES, Filter
from cloud.store import Committed, ResultStore
from splitcodec.errors import CursorOutOfRange, FrameConflict, StoreUnavailable
from splitcodec.wire.v1 import results_pb2

FUTURE = 2**62
ANY_SIZE = 2**62


def result(
    seq: int, camera: str = "door", captured: int | None = None, padding: int = 0
) -> results_pb2.TaskResult:
    key = results_pb2.FrameKey(device="box", camera=camera, seq=seq)
    made = results_pb2.TaskResult(key=key, task="detect", capture_time_unix_nanos=captured or 1000 + seq)
    made.detections.items.add(label="x" * padding)
    return made


def key(seq: int, camera: str = "door") -> FrameKey:
    return FrameKey("box", camera, seq)


@pytest.fixture
def store(tmp_path: Path):
    opened = ResultStore(tmp_path)
    yield opened
    opened.close()


def seqs(store: ResultStore, chosen: Filter = Filter()) -> list[int]:  # noqa: B008 - frozen
    return [one.key.seq for one in store.read(chosen, 0, 1000).results]


def retire_all(store: ResultStore, oldest: int, max_bytes: int) -> int:
    total = 0
    while gone := store.retire_some(oldest, max_bytes):
        total += gone
    return total


def test_commits_are_synced_to_disk_and_readers_do_not_block(store: ResultStore) -> None:
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_cursors_rise_in_the_order_of_the_call(store: ResultStore) -> None:
    committed = store.put([result(seq) for seq in (5, 3, 9)])
    assert [one.result.cursor for one in committed if isinstance(one, Committed)] == [1, 2, 3]
    assert seqs(store) == [5, 3, 9]


def test_a_repeated_key_keeps_the_first_result(store: ResultStore) -> None:
    (first,) = store.put([result(1)])
    again, other = store.put([result(1, padding=50), result(2)])
    assert isinstance(again, Committed)
    assert isinstance(first, Committed)
    assert again.repeated
    assert again.result == first.result
    assert isinstance(other, Committed)
    assert not other.repeated
    assert seqs(store) == [1, 2]


def test_a_page_without_outputs_reads_none_of_them(store: ResultStore) -> None:
    store.put([result(seq, padding=MAX_PAGE_BYTES // 2) for seq in range(8)])
    store._writer.execute("UPDATE results SET output = x'ff'")  # no message at all
    for page in (
        store.read(Filter(), 0, 100, without_output=True),
        store.tail(Filter(), 0, 100, without_output=True),
    ):
        assert [one.key.seq for one in page.results] == list(range(8))
        assert all(one.output_left_out and one.WhichOneof("output") is None for one in page.results)
        assert not page.more
    with pytest.raises(StoreUnavailable, match="the result at cursor 1 is damaged"):
        store.read(Filter(), 0, 100)


def test_a_result_without_an_output_is_not_one_whose_output_was_left_out(store: ResultStore) -> None:
    empty = result(1)
    empty.ClearField("output")
    (committed,) = store.put([empty])
    (read,) = store.read(Filter(), 0, 1).results
    assert isinstance(committed, Committed)
    assert read == committed.result
    assert not read.output_left_out


def test_a_reused_seq_is_a_conflict_and_the_rest_of_the_batch_is_kept(store: ResultStore) -> None:
    store.put([result(1)])
    conflict, kept = store.put([result(1, captured=77), result(2)])
    assert isinstance(conflict, FrameConflict)
    assert isinstance(kept, Committed)
    assert seqs(store) == [1, 2]


def test_a_failed_batch_leaves_nothing(store: ResultStore) -> None:
    too_big_for_sqlite = result(2**63, captured=1)
    with pytest.raises(OverflowError):
        store.put([result(1), too_big_for_sqlite])
    assert seqs(store) == []
    store.put([result(2)])
    assert seqs(store) == [2]


def test_a_full_disk_is_reported_and_the_store_works_again_once_there_is_room(store: ResultStore) -> None:
    store.put([result(1)])
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="check that disk and its free space"):
        store.put([result(2, padding=100_000)])
    assert seqs(store) == [1]
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.put([result(2, padding=100_000)])
    assert seqs(store) == [1, 2]


def test_results_and_cursors_survive_reopening(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put([result(1), result(2)])
    retire_all(store, FUTURE, ANY_SIZE)
    store.close()
    store = ResultStore(tmp_path)
    try:
        assert store.newest() == 2
        assert store.find(key(1)) is None
        (committed,) = store.put([result(3)])
        assert isinstance(committed, Committed)
        assert committed.result.cursor == 3
        with pytest.raises(CursorOutOfRange):
            store.check_gap(Filter(), 1)
    finally:
        store.close()


def test_a_second_service_on_the_same_folder_is_refused(tmp_path: Path, store: ResultStore) -> None:
    with pytest.raises(StoreUnavailable, match="in use by another cloud service"):
        ResultStore(tmp_path)
    store.put([result(1)])


def test_old_results_are_retired_and_young_ones_kept(store: ResultStore) -> None:
    store.put([result(seq) for seq in range(3)])
    between = time.time_ns()
    store.put([result(seq) for seq in range(3, 5)])
    assert retire_all(store, between, ANY_SIZE) == 3
    assert seqs(store) == [3, 4]
    assert store.size().results == 2


def test_the_oldest_results_go_when_the_database_is_too_big(store: ResultStore) -> None:
    store.put([result(seq, padding=2000) for seq in range(2000)])
    before = store.size().num_bytes
    retire_all(store, 0, before // 2)
    left = seqs(store)
    assert store.size().num_bytes <= before // 2
    assert left
    assert left[-1] == 1999
    assert left == list(range(left[0], 2000))
    size = (store._path).stat().st_size
    store.put([result(seq, padding=2000) for seq in range(2000, 2500)])
    retire_all(store, 0, before // 2)
    assert store._path.stat().st_size <= max(size, before)


def test_a_gap_is_seen_per_camera(store: ResultStore) -> None:
    store.put([result(1), result(1, "yard"), result(2)])
    retire_all(store, FUTURE, ANY_SIZE)
    store.put([result(2, "yard")])
    with pytest.raises(CursorOutOfRange, match="between cursor 1 and 3"):
        store.tail(Filter(camera="door"), 1, 10)
    page = store.tail(Filter(camera="yard"), 2, 10)
    assert [one.key.seq for one in page.results] == [2]
    assert store.oldest_position(Filter(camera="yard")) == 2


def test_a_read_to_the_end_passes_the_results_of_other_cameras_once(store: ResultStore) -> None:
    store.put([result(1), *(result(seq, "yard") for seq in range(50))])
    page = store.read(Filter(camera="door"), 0, 10)
    assert (page.position, page.more) == (51, False)


def test_a_page_stays_below_what_a_client_takes(store: ResultStore) -> None:
    store.put([result(seq, padding=MAX_PAGE_BYTES // 3) for seq in range(5)])
    first = store.read(Filter(), 0, 100)
    assert len(first.results) == 2
    assert first.more
    rest = store.read(Filter(), first.position, 100)
    assert [one.key.seq for one in rest.results] == [2, 3]


def test_readers_in_threads_see_whole_batches(store: ResultStore) -> None:
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(len(store.read(Filter(), 0, 1000).results))

    reader = threading.Thread(target=read)
    reader.start()
    batches = 0
    try:
        while not any(0 < count < 10 * batches for count in seen):
            assert reader.is_alive()
            store.put([result(10 * batches + n) for n in range(10)])
            batches += 1
    finally:
        stop.set()
        reader.join()
    assert {count % 10 for count in seen} == {0}

"""The result database over its versions, and the indexes behind every filter that List and Watch offer."""

from __future__ import annotations

import gzip
import itertools
import sqlite3
from pathlib import Path

import pytest
from test_cloud_store import key, result

from cloud.reads import Filter, page_query
from cloud.schema import SCHEMA_VERSION, migrate, version_of
from cloud.store import DATABASE_FILE, Committed, ResultStore
from splitcodec.errors import CursorOutOfRange, FrameConflict, StoreUnavailable

VERSION_1 = Path(__file__).parent / "golden" / "results_v1.sqlite3.gz"
"""Written by the service before version 2: door 1 to 4, yard 1 and 2; door 1 and yard 1 are retired."""
VERSION_2 = VERSION_1.with_name("results_v2.sqlite3.gz")
"""Written by the service before version 3: door 1, door 2 with a class map of three runs, yard 1."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder that a service of schema version 1 left behind."""
    (tmp_path / DATABASE_FILE).write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    return tmp_path


def _objects(path: Path) -> list[tuple[str, str, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
    finally:
        connection.close()


def test_a_file_of_version_1_keeps_its_results_cursors_and_gaps(old: Path) -> None:
    store = ResultStore(old)
    try:
        page = store.read(Filter(), 0, 100)
        assert [(one.key.camera, one.key.seq, one.cursor) for one in page.results] == [
            ("door", 2, 3),
            ("yard", 2, 4),
            ("door", 3, 5),
            ("door", 4, 6),
        ]
        assert store.find(key(3)) == page.results[2]
        with pytest.raises(CursorOutOfRange, match="between cursor 1 and 2"):
            store.check_gap(Filter(camera="yard"), 1)
        repeated, fresh = store.put([result(4), result(5)])
        assert isinstance(repeated, Committed)
        assert repeated.repeated
        assert isinstance(fresh, Committed)
        assert fresh.result.cursor == 7
        assert store.retire_some(2**62, 2**62) == 5
    finally:
        store.close()


def test_a_migrated_file_and_a_new_one_are_alike(old: Path) -> None:
    new = old / "new"
    for folder in (old, new):
        ResultStore(folder).close()
    assert _objects(old / DATABASE_FILE) == _objects(new / DATABASE_FILE)
    connection = sqlite3.connect(old / DATABASE_FILE)
    assert version_of(connection) == SCHEMA_VERSION == 5
    connection.close()


def test_a_file_of_version_2_is_read_with_and_without_outputs(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(gzip.decompress(VERSION_2.read_bytes()))
    store = ResultStore(tmp_path)
    try:
        (fresh,) = store.put([result(3)])
        assert isinstance(fresh, Committed)
        whole = store.read(Filter(), 0, 100).results
        bare = store.read(Filter(), 0, 100, without_output=True).results
        repeated, conflict = store.put([whole[1], result(1, captured=77)])
        assert store.find(key(2)) == whole[1]
    finally:
        store.close()
    assert [one.WhichOneof("output") for one in whole] == ["detections", "segmentation"] + 2 * ["detections"]
    assert list(whole[1].segmentation.run_lengths) == [1, 4, 1]
    assert whole[3] == fresh.result
    assert isinstance(repeated, Committed)
    assert repeated.repeated
    assert isinstance(conflict, FrameConflict)
    for one in whole:
        one.ClearField("output")
        one.output_left_out = True
    assert bare == whole


def test_a_migration_that_fails_half_way_leaves_the_old_version(old: Path) -> None:
    before = _objects(old / DATABASE_FILE)
    connection = sqlite3.connect(old / DATABASE_FILE)
    connection.set_authorizer(_no_alteration)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        migrate(connection)
    assert version_of(connection) == 1
    connection.close()
    assert _objects(old / DATABASE_FILE) == before
    ResultStore(old).close()


def _no_alteration(action: int, *_: object) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ALTER_TABLE else sqlite3.SQLITE_OK


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 900, -1])
def test_a_database_of_an_unknown_version_is_refused_and_not_changed(old: Path, version: int) -> None:
    connection = sqlite3.connect(old / DATABASE_FILE)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = _objects(old / DATABASE_FILE)
    with pytest.raises(StoreUnavailable, match=f"schema version {version}.*update the service"):
        ResultStore(old)
    assert _objects(old / DATABASE_FILE) == before


BEST = {  # the names that are given, and the index that finds fewest
    ("device",): "results_by_device (device=? AND rowid",
    ("camera",): "results_by_camera_name (camera=? AND rowid",
    ("task",): "results_by_task (task=? AND rowid",
    ("device", "camera"): "results_by_camera (device=? AND camera=? AND cursor",
    ("device", "task"): "results_by_device (device=? AND rowid",
    ("camera", "task"): "results_by_camera_name (camera=? AND rowid",
    ("device", "camera", "task"): "results_by_camera (device=? AND camera=? AND cursor",
}


@pytest.mark.parametrize("newest_first", [False, True], ids=["rising", "falling"])
@pytest.mark.parametrize("times", [(0, 0), (5, 9)], ids=["always", "between"])
@pytest.mark.parametrize("names", BEST, ids="+".join)
def test_every_filter_of_names_is_answered_by_an_index_in_order(
    tmp_path: Path, names: tuple[str, ...], times: tuple[int, int], newest_first: bool
) -> None:
    store = ResultStore(tmp_path)
    try:
        chosen = Filter(**dict.fromkeys(names, "x"), captured_from=times[0], captured_until=times[1])
        query, values = page_query(chosen, newest_first=newest_first)
        plan = store._writer.execute(f"EXPLAIN QUERY PLAN {query}", [0, *values, 10]).fetchall()
    finally:
        store.close()
    (step,) = [row[3] for row in plan if "TEMP" in row[3] or " results " in row[3]]  # nothing is sorted
    assert step.startswith(f"SEARCH results USING INDEX {BEST[names]}")


def test_every_set_of_names_has_its_index() -> None:
    names = ("device", "camera", "task")
    sets = itertools.chain.from_iterable(itertools.combinations(names, count) for count in (1, 2, 3))
    assert set(BEST) == set(sets)

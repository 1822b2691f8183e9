"""A damaged result database: moved aside, and what can be read of it is in a new one.

Nobody knows which results are missing. So all that were saved get new cursors above every old one: a reader
who resumes learns of the gap (CursorOutOfRange), one who begins anew gets all there is. And of a camera that
has results, frames up to its highest seq count as settled, so that none is seen twice. The index of keys is
another part of the file than the rows: what it has and nothing saved has is counted and named, in
`results.damaged-TIME.lost`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from cloud.retention import REMEMBER
from cloud.row_checks import crc_of, is_whole, keep_crc
from splitcodec.damaged import SQLITE_ERRORS, open_damaged, readable_rows
from splitcodec.durable import write_durably
from splitcodec.wire.v1.results_pb2 import TaskResult

log = logging.getLogger(__name__)
KEPT_LISTS: Final = 100  # of lost frames
EVERYWHERE: Final = ("", "")  # a mark in `retired` of no camera: results of all were lost up to its cursor
_RESULTS: Final = "SELECT * FROM results NOT INDEXED WHERE cursor > ? ORDER BY cursor"
_KEYS: Final = "SELECT device, camera, seq FROM results INDEXED BY sqlite_autoindex_results_1"
_SAVED: Final = "SELECT 1 FROM results WHERE device = ? AND camera = ? AND seq = ?"
_RETIRED: Final = "SELECT device, camera, seq FROM retired"
_INSERT: Final = (
    "INSERT OR IGNORE INTO results (device, camera, seq, task, captured, stored, result, output) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class Recovery:
    """Where the damaged file is, how many results were saved from it, and of how many only the key was."""

    aside: Path
    saved: int
    lost: int


def save(aside: Path, into: sqlite3.Connection) -> Recovery:
    """Copy what can be read into a new database; where its disk fails too, only the mark is made there."""
    saved, lost = 0, 0
    begin = time.time_ns() // 1000  # far above any count of results, and higher each time
    try:
        source = open_damaged(aside)
        try:
            into.execute("BEGIN IMMEDIATE")
            saved = _copy(source, into, begin)
            into.execute("COMMIT")
            lost = _name_lost(source, into, aside)
        finally:
            source.close()
    except SQLITE_ERRORS as error:
        if into.in_transaction:
            into.execute("ROLLBACK")
        log.error("nothing can be saved of %s: %s", aside, error)
        saved = 0
        into.execute("BEGIN IMMEDIATE")
        _mark(into, begin)
        into.execute("COMMIT")
    return Recovery(aside, saved, lost)


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, begin: int) -> int:
    _mark(into, begin)
    saved = 0
    highest: dict[tuple[str, str], int] = {}
    for row in _sound(source):
        stored = into.execute(_INSERT, row)
        if stored.rowcount == 1:
            saved += 1
            keep_crc(into, int(stored.lastrowid or 0), *row[-2:])
        lane = (row[0], row[1])
        highest[lane] = max(row[2], highest.get(lane, -1))
    into.executemany(REMEMBER, [(*lane, 0, seq) for lane, seq in highest.items()])
    try:
        for device, camera, seq in source.execute(_RETIRED):
            into.execute(REMEMBER, (device, camera, 0, seq))
    except SQLITE_ERRORS as error:
        log.warning("which results were deleted before cannot be read: %s", error)
    return saved


def _name_lost(source: sqlite3.Connection, into: sqlite3.Connection, aside: Path) -> int:
    """Write down the frames of which the index still has the key, and nothing else is left; how many."""
    lost: list[str] = []
    try:
        for device, camera, seq in source.execute(_KEYS):
            known = isinstance(device, str) and isinstance(camera, str) and isinstance(seq, int)
            if known and into.execute(_SAVED, (device, camera, seq)).fetchone() is None:
                lost.append(f"{device} {camera} {seq}\n")
    except SQLITE_ERRORS as error:
        log.warning("not every frame whose result was lost can be named: %s", error)
    try:
        for older in sorted(aside.parent.glob("*.lost"))[:-KEPT_LISTS]:
            older.unlink()
        if lost:
            write_durably(aside.with_suffix(".lost"), "".join(lost).encode("utf-8", "replace"))
    except OSError as error:
        log.error("the names of %s lost results cannot be written down: %s", len(lost), error)
    return len(lost)


def _mark(into: sqlite3.Connection, begin: int) -> None:
    """Cursors go on after `begin`, and readers behind it have missed something."""
    into.execute("DELETE FROM sqlite_sequence WHERE name = 'results'")
    into.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('results', ?)", (begin,))
    into.execute(REMEMBER, (*EVERYWHERE, begin, -1))


def _sound(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Rows whose message says what their columns say."""
    for cursor, device, camera, seq, task, captured, stored, result, *rest in readable_rows(source, _RESULTS):
        output = rest[0] if rest else b""  # before schema version 3 the message had it all
        if output is None or not is_whole(result, output, crc_of(source, cursor)):
            continue
        try:
            message = TaskResult.FromString(result)
            TaskResult.FromString(output)
        except (DecodeError, TypeError):
            continue
        key = message.key
        said = (key.device, key.camera, key.seq, message.task, message.capture_time_unix_nanos)
        if said == (device, camera, seq, task, captured) and isinstance(stored, int):
            yield device, camera, seq, task, captured, stored, result, output

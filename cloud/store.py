"""Results in one SQLite file (WAL, synchronous=FULL): what is committed here survives a power cut.

Every result gets a cursor, a number that only rises and is never used again; reading in cursor order is
reading in commit order. A frame key is stored once. The age and size limits delete the oldest results; per
camera the cursor of the last deleted one is remembered, so that a reader who was too slow learns of the gap.

The methods block; `cloud.result_log` calls them off the event loop. Writing is for one thread, reading for
any.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from cloud import database
from cloud.database import SCHEMA, SCHEMA_VERSION, Filter, Page
from cloud.messages import FrameKey
from splitcodec.errors import FrameConflict, StoreUnavailable
from splitcodec.wire.v1.results_pb2 import TaskResult

DATABASE_FILE: Final = "results.sqlite3"
LOCK_FILE: Final = "results.lock"
RETIRE_ROWS: Final = 500  # deleted per transaction, so that commits wait milliseconds at most
BUSY_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class Committed:
    """A result as it is in the store, cursor set; `repeated` if it was there before."""

    result: TaskResult
    repeated: bool


@dataclass(frozen=True)
class Holdings:
    """How much the store holds: results, and bytes of the database that are in use."""

    results: int
    num_bytes: int


class ResultStore:
    """One process at a time; StoreUnavailable from any method when the database cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE_FILE
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        with self._storing():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(folder)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with self._storing():
            self._writer = self._connect()
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise StoreUnavailable(
                    f"{self._path} has schema version {version}, this service writes {SCHEMA_VERSION}; "
                    "update the service or choose another data_dir"
                )
            if version == 0:
                self._writer.executescript(SCHEMA)

    def close(self) -> None:
        """Close every connection and let go of the folder."""
        for connection in self._connections:
            connection.close()
        self._lock.close()

    def put(self, results: Sequence[TaskResult]) -> list[Committed | FrameConflict]:
        """Commit all in one transaction, in order. A key that is there already keeps its first result.

        FrameConflict, in place of the result, where the key belongs to a frame of another capture time.
        """
        with self._storing(), _transaction(self._writer):
            return [self._put_one(result) for result in results]

    def find(self, key: FrameKey) -> TaskResult | None:
        """The result of that frame, cursor set, or None."""
        with self._storing():
            return database.find(self._reader(), key)

    def newest(self) -> int:
        """The cursor of the result committed last, deleted ones included; 0 if there never was one."""
        with self._storing():
            return database.newest(self._reader())

    def read(self, chosen: Filter, after: int, limit: int, *, newest_first: bool = False) -> Page:
        """At most `limit` results beyond cursor `after`, in rising order, or in falling order below it.

        A page of rising order that reaches the end has the newest cursor of all cameras as its position, so
        that the next read need not pass the same results of other cameras again.
        """
        with self._storing(), database.snapshot(self._reader()) as connection:
            return database.page(connection, chosen, after, limit, newest_first=newest_first)

    def tail(self, chosen: Filter, after: int, limit: int) -> Page:
        """`read` in rising order that raises CursorOutOfRange rather than pass over deleted results."""
        with self._storing(), database.snapshot(self._reader()) as connection:
            database.check_gap(connection, chosen, after)
            return database.page(connection, chosen, after, limit, newest_first=False)

    def check_gap(self, chosen: Filter, after: int) -> None:
        """CursorOutOfRange if results of `chosen` beyond cursor `after` were deleted, or `after` lies ahead
        of all."""
        with self._storing(), database.snapshot(self._reader()) as connection:
            database.check_gap(connection, chosen, after)

    def oldest_position(self, chosen: Filter) -> int:
        """The cursor to read after to begin with the oldest result still kept."""
        with self._storing():
            return database.newest_retired(self._reader(), chosen)

    def holdings(self) -> Holdings:
        """What the store holds now."""
        with self._storing(), database.snapshot(self._reader()) as connection:
            count = connection.execute("SELECT COUNT(*) FROM results").fetchone()[0]
            return Holdings(count, database.bytes_in_use(connection))

    def retire_some(self, oldest_stored: int, max_bytes: int) -> int:
        """Delete up to RETIRE_ROWS results over the limits; how many went. 0 means that the limits hold.

        oldest_stored: unix nanoseconds, results stored before go. max_bytes: while the database uses more,
        the oldest results go.
        """
        with self._storing():
            with _transaction(self._writer):
                too_big = database.bytes_in_use(self._writer) > max_bytes
                gone = self._retire_oldest(None if too_big else oldest_stored)
            if gone:
                self._writer.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def _put_one(self, result: TaskResult) -> Committed | FrameConflict:
        key = FrameKey(result.key.device, result.key.camera, result.key.seq)
        stored = self._writer.execute(
            "INSERT INTO results (device, camera, seq, task, captured, stored, result) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                *key.columns(),
                result.task,
                result.capture_time_unix_nanos,
                time.time_ns(),
                result.SerializeToString(),
            ),
        )
        if stored.rowcount == 1 and stored.lastrowid is not None:
            return Committed(database.with_cursor(result, stored.lastrowid), repeated=False)
        existing = database.find(self._writer, key)
        if existing is None:
            raise sqlite3.IntegrityError(f"{key} was refused as a repetition and is not there")
        if existing.capture_time_unix_nanos != result.capture_time_unix_nanos:
            return conflict(key, existing, result.capture_time_unix_nanos)
        return Committed(existing, repeated=True)

    def _retire_oldest(self, stored_before: int | None) -> int:
        where = "" if stored_before is None else "WHERE stored < ?"
        values = [] if stored_before is None else [stored_before]
        oldest = f"SELECT cursor FROM results {where} ORDER BY cursor LIMIT {RETIRE_ROWS}"
        last = self._writer.execute(f"SELECT MAX(cursor) FROM ({oldest})", values).fetchone()[0]
        if last is None:
            return 0
        self._writer.execute(
            "INSERT INTO retired SELECT device, camera, MAX(cursor) FROM results WHERE cursor <= ? "
            "GROUP BY device, camera ON CONFLICT DO UPDATE SET cursor = excluded.cursor",
            (last,),
        )
        return self._writer.execute("DELETE FROM results WHERE cursor <= ?", (last,)).rowcount

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        with self._connections_lock:
            self._connections.append(connection)
        return connection

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"result store {self._path}: {error}; check that disk and its free space"
            ) from error


def conflict(key: FrameKey, existing: TaskResult, captured: int) -> FrameConflict:
    """The error for a second frame, captured at `captured`, with the key of an existing one."""
    return FrameConflict(
        f"{key} was captured at {existing.capture_time_unix_nanos}, not at {captured} (unix nanoseconds); "
        "a device must number its frames upwards and never reuse a seq"
    )


def _lock_folder(folder: Path) -> TextIO:
    lock = (folder / LOCK_FILE).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreUnavailable(
            f"{folder} is in use by another cloud service; stop it or choose another data_dir"
        ) from None
    return lock


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """The body's writes are committed together, or none of them is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")

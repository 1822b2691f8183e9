"""Results in one SQLite file (WAL, synchronous=FULL): what is committed here survives a power cut.

Every result gets a cursor, a number that only rises and is never used again; reading in cursor order is
reading in commit order. A frame key is stored once. The age and size limits delete the oldest results; per
camera the cursor of the last deleted one is remembered, so that a reader who was too slow learns of the gap,
and the highest deleted seq, so that a frame that is sent again after that is not stored anew.

The methods block; `cloud.result_log` calls them off the event loop. Writing is for one thread, reading for
any.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeAlias

from cloud import database, retention
from cloud.database import MAX_RESULT_BYTES, Filter, Page
from cloud.messages import FrameKey
from cloud.schema import SCHEMA_VERSION, migrate, version_of
from splitcodec.errors import FrameConflict, RequestError, ResultRetired, ResultTooLarge, StoreUnavailable
from splitcodec.wire.names import MAX_SEQ
from splitcodec.wire.v1.results_pb2 import TaskResult

DATABASE_FILE: Final = "results.sqlite3"
LOCK_FILE: Final = "results.lock"
RETIRE_ROWS: Final = 500  # deleted per transaction, so that commits wait milliseconds at most
BUSY_TIMEOUT_S: Final = 5.0
CACHE_KIB: Final = 512
"""Of pages per connection. It fills within minutes; what is read twice is in the system's cache anyway."""
STEPS_PER_LOOK: Final = 10_000  # of SQLite's machine, well below a millisecond, between two looks at `left`


@dataclass(frozen=True)
class Committed:
    """A result as it is in the store, cursor set; `repeated` if it was there before."""

    result: TaskResult
    repeated: bool


Outcome: TypeAlias = Committed | RequestError


@dataclass(frozen=True)
class StoreSize:
    """How much is stored: results, and bytes of the database that are in use."""

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
            version = version_of(self._writer)
            if not 0 <= version <= SCHEMA_VERSION:
                raise StoreUnavailable(
                    f"{self._path} has schema version {version}, this service writes {SCHEMA_VERSION}; "
                    "update the service or choose another data_dir"
                )
            migrate(self._writer)
            self._count = database.count(self._writer)

    def close(self) -> None:
        """Close every connection and let go of the folder."""
        for connection in self._connections:
            connection.close()
        self._lock.close()

    def put(self, results: Sequence[TaskResult]) -> list[Outcome]:
        """Commit all in one transaction, in order. A key that is there already keeps its first result.

        In place of a result that is not kept: FrameConflict where the key belongs to a frame of another
        capture time, ResultRetired where it was deleted, ResultTooLarge above MAX_RESULT_BYTES.
        """
        with self._storing(), _transaction(self._writer):
            outcomes = [self._put_one(result) for result in results]
        self._count += sum(isinstance(one, Committed) and not one.repeated for one in outcomes)
        return outcomes

    def find(self, key: FrameKey) -> TaskResult | None:
        """The result of that frame, cursor set, or None."""
        with self._storing():
            return database.find(self._reader(), key)

    def look_up(self, key: FrameKey) -> TaskResult | None:
        """`find` for a frame that was sent: ResultRetired if it had a result that was deleted."""
        with self._storing(), database.snapshot(self._reader()) as connection:
            result = database.find(connection, key)
            if result is None:
                check_retired(connection, key)
            return result

    def highest_seq(self, device: str, camera: str) -> int:
        """The highest seq of a camera that was ever stored, deleted ones included; -1 for none."""
        with self._storing(), database.snapshot(self._reader()) as connection:
            query = "SELECT MAX(seq) FROM results WHERE device = ? AND camera = ?"
            (kept,) = connection.execute(query, (device, camera)).fetchone()
            deleted = retention.highest_retired(connection, device, camera)
        return deleted if kept is None else max(int(kept), deleted)

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

    def size(self) -> StoreSize:
        """What is stored now, without a walk through a table; for the thread that writes."""
        with self._storing():
            return StoreSize(self._count, database.bytes_in_use(self._writer))

    def retire_some(self, oldest_stored: int, max_bytes: int) -> int:
        """Delete up to RETIRE_ROWS results over the limits; how many went. 0 means that the limits hold.

        oldest_stored: unix nanoseconds, results stored before go, as cloud.retention says. max_bytes: while
        the database uses more, the oldest results go.
        """
        with self._storing():
            until = retention.last_old(self._writer, oldest_stored, time.time_ns(), RETIRE_ROWS)
            with _transaction(self._writer):
                too_big = database.bytes_in_use(self._writer) > max_bytes
                gone = retention.retire(self._writer, MAX_SEQ if too_big else until, RETIRE_ROWS)
            self._count -= gone
            if gone:
                self._writer.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    @contextmanager
    def while_wanted(self, left: Callable[[], bool]) -> Iterator[None]:
        """Reads of this thread in the body end with StoreUnavailable soon after `left` turned True."""
        with self._storing():
            reader = self._reader()
        # Not Connection.interrupt, which is lost when it comes between two statements.
        reader.set_progress_handler(left, STEPS_PER_LOOK)
        try:
            yield
        finally:
            reader.set_progress_handler(None, 0)
            if reader.in_transaction:
                reader.execute("ROLLBACK")

    def _put_one(self, result: TaskResult) -> Outcome:
        key = FrameKey(result.key.device, result.key.camera, result.key.seq)
        existing = database.find(self._writer, key)
        if existing is None:
            return self._insert(key, result)
        if existing.capture_time_unix_nanos != result.capture_time_unix_nanos:
            return conflict(key, existing, result.capture_time_unix_nanos)
        return Committed(existing, repeated=True)

    def _insert(self, key: FrameKey, result: TaskResult) -> Outcome:
        data = result.SerializeToString()
        if len(data) > MAX_RESULT_BYTES:
            return too_large(key, len(data))
        try:
            check_retired(self._writer, key)
        except ResultRetired as error:
            return error
        stored = self._writer.execute(
            "INSERT INTO results (device, camera, seq, task, captured, stored, result) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key.columns(), result.task, result.capture_time_unix_nanos, time.time_ns(), data),
        )
        return Committed(database.with_cursor(result, int(stored.lastrowid or 0)), repeated=False)

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
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
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


def too_large(key: FrameKey, num_bytes: int) -> ResultTooLarge:
    """The error for a result of num_bytes that is not kept, or not sent."""
    return ResultTooLarge(
        f"the result of {key} has {num_bytes} bytes, one may have {MAX_RESULT_BYTES}; "
        "lower max_detections, or serve a pack whose task says less"
    )


def check_retired(connection: sqlite3.Connection, key: FrameKey) -> None:
    """ResultRetired if a frame that is not stored can only be one that was."""
    highest = retention.highest_retired(connection, key.device, key.camera)
    if key.seq <= highest:
        raise ResultRetired(
            f"{key} was settled here before: results of that camera up to seq {highest} were deleted by age "
            "or size; do not send it again, and number new frames above"
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

"""What is read from the result database: one result, a page of a history, or what follows a cursor.

The methods block; `cloud.result_log` calls them off the event loop.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud import chain_rows
from cloud.messages import FrameKey
from cloud.retention import highest_retired
from cloud.row_checks import CRC, parse_row
from splitcodec.damaged import DISK_ERRORS, lenient
from splitcodec.errors import CursorOutOfRange, ResultRetired, StoreUnavailable
from splitcodec.wire.v1.results_pb2 import TaskResult

MAX_PAGE_BYTES: Final = 3 * 2**20
"""A page of results ends here, below the 4 MiB that gRPC clients take when nobody told them otherwise."""
BUSY_TIMEOUT_S: Final = 5.0
CACHE_KIB: Final = 512
"""Of pages per connection. It fills within minutes; what is read twice is in the system's cache anyway."""
STEPS_PER_LOOK: Final = 10_000  # of SQLite's machine, well below a millisecond, between two looks at `left`


@dataclass(frozen=True)
class Filter:
    """Which results: an empty string takes any; times in unix nanoseconds, [from, until), 0 for no bound."""

    device: str = ""
    camera: str = ""
    task: str = ""
    captured_from: int = 0
    captured_until: int = 0

    def where(self) -> tuple[str, list[str | int]]:
        """SQL conditions on `results`, each starting with AND, and their values.

        There is an index for a device, a camera, both, or a task. Of a task beside them the + hides its own,
        which would find far more.
        """
        task = "+task = ?" if self.device or self.camera else "task = ?"
        conditions: dict[str, str | int] = {
            "device = ?": self.device,
            "camera = ?": self.camera,
            task: self.task,
            "captured >= ?": self.captured_from,
            "captured < ?": self.captured_until,
        }
        chosen = {condition: value for condition, value in conditions.items() if value}
        return "".join(f" AND {condition}" for condition in chosen), list(chosen.values())


@dataclass(frozen=True)
class Page:
    """Results in order; go on from `position`; `more` if the page ended before the results did."""

    results: tuple[TaskResult, ...]
    position: int
    more: bool


class ResultReader:
    """A connection to the database for every thread that reads; StoreUnavailable when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._life = 0  # counts the files; a thread's connection is to one of them

    @property
    def life(self) -> int:
        """Counts the files that were opened; a damaged one is replaced."""
        return self._life

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            connection.close()

    def find(self, key: FrameKey) -> TaskResult | None:
        """The result of that frame, cursor set, or None."""
        with self._snapshot() as connection:
            return find(connection, key)

    def look_up(self, key: FrameKey) -> TaskResult | None:
        """`find` for a frame that was sent: ResultRetired if it had a result that was deleted."""
        with self._snapshot() as connection:
            result = find(connection, key)
            if result is None:
                check_retired(connection, key)
            return result

    def highest_seq(self, device: str, camera: str) -> int:
        """The highest seq of a camera that was ever stored, deleted ones included; -1 for none."""
        query = "SELECT MAX(seq) FROM results WHERE device = ? AND camera = ?"
        with self._snapshot() as connection:
            (kept,) = connection.execute(query, (device, camera)).fetchone()
            deleted = highest_retired(connection, device, camera)
        return deleted if kept is None else max(int(kept), deleted)

    def chain_to(self, lane: tuple[str, str], state: bytes, below: int) -> list[bytes]:
        """See chain_rows.chain_to."""
        with self._snapshot() as connection:
            return chain_rows.chain_to(connection, lane, state, below)

    def newest(self) -> int:
        """The cursor of the result committed last, deleted ones included; 0 if there never was one."""
        with self._snapshot() as connection:
            return _newest(connection)

    def read(
        self,
        chosen: Filter,
        after: int,
        limit: int,
        *,
        newest_first: bool = False,
        without_output: bool = False,
    ) -> Page:
        """At most `limit` results beyond cursor `after`, in rising order, or in falling order below it.

        A page of rising order that reaches the end has the newest cursor of all cameras as its position, so
        that the next read need not pass the same results of other cameras again. without_output: no output is
        read, whatever its size.
        """
        with self._snapshot() as connection:
            return _page(
                connection,
                chosen,
                after,
                limit,
                newest_first=newest_first,
                without_output=without_output,
            )

    def tail(self, chosen: Filter, after: int, limit: int, *, without_output: bool = False) -> Page:
        """`read` in rising order that raises CursorOutOfRange rather than pass over deleted results."""
        with self._snapshot() as connection:
            _check_gap(connection, chosen, after)
            return _page(connection, chosen, after, limit, newest_first=False, without_output=without_output)

    def check_gap(self, chosen: Filter, after: int) -> None:
        """CursorOutOfRange if results of `chosen` beyond cursor `after` were deleted, or `after` lies ahead
        of all."""
        with self._snapshot() as connection:
            _check_gap(connection, chosen, after)

    def oldest_position(self, chosen: Filter) -> int:
        """The cursor to read after to begin with the oldest result still kept."""
        with self._snapshot() as connection:
            return _newest_retired(connection, chosen)

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

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; all reads of the body see one state of the database."""
        with self._storing():
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.life != self._life:
            self._local.life = self._life
            connection = self._local.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = lenient
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        with self._connections_lock:
            self._connections.append(connection)
        return connection

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except DISK_ERRORS as error:
            raise StoreUnavailable(
                f"result store {self._path}: {error}; check that disk and its free space"
            ) from error


def find(connection: sqlite3.Connection, key: FrameKey) -> TaskResult | None:
    """See ResultReader.find."""
    row = connection.execute(
        f"SELECT cursor, result, output, {CRC} FROM results WHERE device = ? AND camera = ? AND seq = ?",
        key.columns(),
    ).fetchone()
    return None if row is None else parse_row(*row)


def check_retired(connection: sqlite3.Connection, key: FrameKey) -> None:
    """ResultRetired if a frame that is not stored can only be one that was."""
    highest = highest_retired(connection, key.device, key.camera)
    if key.seq <= highest:
        raise ResultRetired(
            f"{key} was settled here before: results of that camera up to seq {highest} were deleted by age "
            "or size; do not send it again, and number new frames above"
        )


def page_query(
    chosen: Filter, *, newest_first: bool, without_output: bool = False
) -> tuple[str, list[str | int]]:
    """SQL for a page; its values are a cursor, those that are returned, and a limit."""
    where, values = chosen.where()
    output = "NULL" if without_output else "output"
    beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
    return (
        f"SELECT cursor, result, {output}, {CRC} FROM results WHERE cursor {beyond} ?{where} "
        f"ORDER BY cursor {order} LIMIT ?",
        values,
    )


def _page(
    connection: sqlite3.Connection,
    chosen: Filter,
    after: int,
    limit: int,
    *,
    newest_first: bool,
    without_output: bool,
) -> Page:
    query, values = page_query(chosen, newest_first=newest_first, without_output=without_output)
    results: list[TaskResult] = []
    num_bytes = 0
    more = False
    for cursor, data, output, crc in connection.execute(query, [after, *values, limit + 1]):
        result = parse_row(cursor, data, output, crc)
        num_bytes += len(data) + len(output or b"")
        more = len(results) == limit or (bool(results) and num_bytes > MAX_PAGE_BYTES)
        if more:
            break
        results.append(result)
    last = results[-1].cursor if results else after
    position = last if more or newest_first else max(last, _newest(connection))
    return Page(tuple(results), position, more)


def _check_gap(connection: sqlite3.Connection, chosen: Filter, after: int) -> None:
    last = _newest(connection)
    if after > last:
        raise CursorOutOfRange(
            f"cursor {after} is ahead of the newest, {last}: the results were replaced; start from cursor 0"
        )
    retired = _newest_retired(connection, chosen)
    if after < retired:
        raise CursorOutOfRange(
            f"results between cursor {after} and {retired} were deleted by age or size; start from cursor 0, "
            "read faster, or raise retention_days and retention_bytes"
        )


def _newest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'results'").fetchone()
    return 0 if row is None else int(row[0])


def _newest_retired(connection: sqlite3.Connection, chosen: Filter) -> int:
    where, values = Filter(chosen.device, chosen.camera).where()
    query = f"SELECT MAX(cursor) FROM retired WHERE (TRUE{where}) OR device = ''"  # see cloud.recovery
    row = connection.execute(query, values).fetchone()
    return int(row[0] or 0)

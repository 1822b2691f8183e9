"""What is read from the result database, as functions of a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cloud.messages import FrameKey
from splitcodec.errors import CursorOutOfRange
from splitcodec.wire.v1.results_pb2 import TaskResult

MAX_PAGE_BYTES: Final = 3 * 2**20
"""A page of results ends here, below the 4 MiB that gRPC clients take when nobody told them otherwise."""
MAX_RESULT_BYTES: Final = MAX_PAGE_BYTES
"""No result is stored with more: it would fit in no page, and in no message of a stream."""


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


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All reads of the body see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def page_query(chosen: Filter, *, newest_first: bool) -> tuple[str, list[str | int]]:
    """SQL for a page; its values are a cursor, those that are returned, and a limit."""
    where, values = chosen.where()
    beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
    return (
        f"SELECT cursor, result FROM results WHERE cursor {beyond} ?{where} ORDER BY cursor {order} LIMIT ?",
        values,
    )


def page(
    connection: sqlite3.Connection, chosen: Filter, after: int, limit: int, *, newest_first: bool
) -> Page:
    query, values = page_query(chosen, newest_first=newest_first)
    results: list[TaskResult] = []
    num_bytes = 0
    more = False
    for cursor, data in connection.execute(query, [after, *values, limit + 1]):
        num_bytes += len(data)
        more = len(results) == limit or (bool(results) and num_bytes > MAX_PAGE_BYTES)
        if more:
            break
        results.append(parse(cursor, data))
    last = results[-1].cursor if results else after
    position = last if more or newest_first else max(last, newest(connection))
    return Page(tuple(results), position, more)


def check_gap(connection: sqlite3.Connection, chosen: Filter, after: int) -> None:
    last = newest(connection)
    if after > last:
        raise CursorOutOfRange(
            f"cursor {after} is ahead of the newest, {last}: the results were replaced; start from cursor 0"
        )
    retired = newest_retired(connection, chosen)
    if after < retired:
        raise CursorOutOfRange(
            f"results between cursor {after} and {retired} were deleted by age or size; start from cursor 0, "
            "read faster, or raise retention_days and retention_bytes"
        )


def find(connection: sqlite3.Connection, key: FrameKey) -> TaskResult | None:
    row = connection.execute(
        "SELECT cursor, result FROM results WHERE device = ? AND camera = ? AND seq = ?", key.columns()
    ).fetchone()
    return None if row is None else parse(*row)


def newest(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'results'").fetchone()
    return 0 if row is None else int(row[0])


def newest_retired(connection: sqlite3.Connection, chosen: Filter) -> int:
    where, values = Filter(chosen.device, chosen.camera).where()
    row = connection.execute(f"SELECT MAX(cursor) FROM retired WHERE TRUE{where}", values).fetchone()
    return int(row[0] or 0)


def count(connection: sqlite3.Connection) -> int:
    """How many results there are; walks an index."""
    return int(connection.execute("SELECT COUNT(*) FROM results").fetchone()[0])


def bytes_in_use(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def parse(cursor: int, data: bytes) -> TaskResult:
    result = TaskResult.FromString(data)
    result.cursor = cursor
    return result


def with_cursor(result: TaskResult, cursor: int) -> TaskResult:
    copy = TaskResult()
    copy.CopyFrom(result)
    copy.cursor = cursor
    return copy

"""Damaged SQLite files: moved aside, read as far as possible."""

from __future__ import annotations

import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

KEPT_DAMAGED_FILES: Final = 2
MAX_ROW: Final = 2**62
SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a statement may raise: SQLite quotes text of a damaged file, and if that is no UTF-8, Python fails."""
DISK_ERRORS: Final = (*SQLITE_ERRORS, OSError)


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that the file itself is broken."""
    return type(error) in (sqlite3.DatabaseError, UnicodeDecodeError)


def move_aside(path: Path) -> Path:
    """Rename a damaged file and its log out of the way; only the newest few such files are kept."""
    stamp = time.time_ns() // 1000
    aside = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    path.replace(aside)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        wal.replace(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    older = sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))[:-KEPT_DAMAGED_FILES]
    for old in older:
        for part in (old, old.with_name(old.name + "-wal"), old.with_name(old.name + "-shm")):
            part.unlink(missing_ok=True)
    return aside


def open_damaged(path: Path) -> sqlite3.Connection:
    """To read what can be read; text that is none is replaced. sqlite3.Error."""
    connection = sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True)
    connection.text_factory = lenient
    connection.execute("PRAGMA writable_schema = ON")  # a damaged line of the schema does not hide the others
    return connection


def readable_rows(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a query whose first column is a rising number and whose one value is the number to begin after.

    A part that cannot be read is left out in growing steps.
    """
    after, step = 0, 1
    while after < MAX_ROW:
        try:
            for row in source.execute(query, (after,)):
                after, step = row[0], 1
                yield row
        except SQLITE_ERRORS:
            after, step = after + step, step * 2
        else:
            return


def lenient(text: bytes) -> str:
    """Damaged text must not stop the reading; what it belongs to is checked."""
    return text.decode("utf-8", "replace")

"""Whether the index of a spool says what its table says: SQLite does not ask, and what it does not find there
is never sent."""

from __future__ import annotations

import sqlite3
from typing import Final

_INDEXED: Final = "SELECT device, camera, seq, id FROM frames INDEXED BY sqlite_autoindex_frames_1"
_STORED: Final = "SELECT device, camera, seq, id FROM frames NOT INDEXED"
_TYPES: Final = (str, str, int, int)
_COUNTED: Final = "SELECT frames FROM totals"


def check_index(connection: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError, as of a damaged file: they differ, or the index is out of order.

    Bitstreams are not read, so this takes a fraction of a second for 100,000 frames.
    """
    count, total, last = 0, 0, None
    for row in connection.execute(_INDEXED):
        if tuple(map(type, row)) != _TYPES or (last is not None and row <= last):
            raise sqlite3.DatabaseError(f"the index of the frames is damaged or out of order at {row}")
        count, total, last = count + 1, total + hash(row), row
    for row in connection.execute(_STORED):
        count, total = count - 1, total - hash(row)
    if count or total:
        raise sqlite3.DatabaseError("the index of the frames does not hold what their table holds")
    (counted,), (stored,) = (
        connection.execute(query).fetchone() or (0,) for query in (_COUNTED, "SELECT COUNT(*) FROM frames")
    )
    if counted != stored:
        raise sqlite3.DatabaseError(f"{stored} frames are here, {counted} were counted")

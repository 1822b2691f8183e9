"""What age and size limits delete from the result database, as functions of a connection.

Results go in cursor order, so that readers see one gap at most. The clock of this machine may have been wrong
when a result was stored: one with a stamp that is too early goes once those before it have gone, one with a
stamp in the future stays until something old comes after it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cloud import chain_rows
from cloud.row_checks import forget_crcs

MAX_AHEAD: Final = 10_000
"""Stamps in the future that one look passes; behind more of them only the size limit deletes."""

STAMPS: Final = "SELECT cursor, stored FROM results ORDER BY cursor LIMIT ?"
OLDEST: Final = "SELECT cursor, device, camera, seq FROM results WHERE cursor <= ? ORDER BY cursor LIMIT ?"
REMEMBER: Final = (
    "INSERT INTO retired (device, camera, cursor, seq) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
    "SET cursor = MAX(cursor, excluded.cursor), seq = MAX(seq, excluded.seq)"
)
DELETE: Final = "DELETE FROM results WHERE cursor <= ?"
MARK: Final = "SELECT seq FROM retired WHERE device = ? AND camera = ?"


def last_old(connection: sqlite3.Connection, oldest_stored: int, now: int, limit: int) -> int:
    """Cursor up to which results are too old, 0 for none; at most `limit` old ones, from the front.

    Times in unix nanoseconds. A young result ends the search, one stored after `now` does not.
    """
    last, old = 0, 0
    for cursor, stored in connection.execute(STAMPS, [limit + MAX_AHEAD]):
        if stored < oldest_stored:
            last, old = cursor, old + 1
        elif stored <= now:
            break
        if old == limit:
            break
    return last


def retire(connection: sqlite3.Connection, until: int, limit: int) -> int:
    """Delete at most `limit` results, the oldest, up to cursor `until`; how many went.

    Per camera the newest deleted cursor and the highest deleted seq are kept. For a transaction of the
    caller.
    """
    gone = connection.execute(OLDEST, (until, limit)).fetchall()
    if not gone:
        return 0
    marks: dict[tuple[str, str], tuple[int, int]] = {}
    for cursor, device, camera, seq in gone:
        highest = marks.get((device, camera), (0, -1))[1]
        marks[device, camera] = cursor, max(seq, highest)
    connection.executemany(REMEMBER, [(*camera, *mark) for camera, mark in marks.items()])
    connection.execute(DELETE, (gone[-1][0],))
    forget_crcs(connection, gone[-1][0])
    for camera in marks:
        chain_rows.drop_if_unused(connection, camera)
    return len(gone)


def highest_retired(connection: sqlite3.Connection, device: str, camera: str) -> int:
    """The highest seq of that camera that was deleted; -1 for none."""
    row = connection.execute(MARK, (device, camera)).fetchone()
    return -1 if row is None else int(row[0])

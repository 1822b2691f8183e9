"""What the spool remembers of frames that it will not send any more: dropped by a limit, or set aside.

Functions on the spool's connection, called inside its transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from edge.spool_policy import Victim
from edge.spool_types import Fate, Lane

KEPT_FATES: Final = 10_000
_PLACE: Final = "WHERE device = ? AND camera = ? AND seq = ?"


def drop(connection: sqlite3.Connection, reason: str, victims: Sequence[Victim]) -> None:
    """Delete frames and remember why."""
    connection.executemany("DELETE FROM frames WHERE id = ?", [(one.row,) for one in victims])
    connection.executemany(
        "INSERT INTO fates (device, camera, seq, state, reason) VALUES (?, ?, ?, 'dropped', ?)",
        [(one.device, one.camera, one.seq, reason) for one in victims[-KEPT_FATES:]],
    )
    _trim(connection)


def set_aside(connection: sqlite3.Connection, lane: Lane, seq: int, detail: str) -> bool:
    """Take a frame out of the queue, and keep its bitstream for a while; False if it is gone."""
    fate = connection.execute(
        "INSERT INTO fates (device, camera, seq, state, reason) "
        f"SELECT device, camera, seq, 'quarantined', ? FROM frames {_PLACE}",
        (detail, *lane, seq),
    )
    if fate.rowcount != 1:
        return False
    connection.execute(
        f"INSERT INTO remains SELECT ?, bitstream FROM frames {_PLACE}", (fate.lastrowid, *lane, seq)
    )
    connection.execute(
        f"INSERT INTO letters SELECT ?, task, captured, worth, crc FROM frames {_PLACE}",
        (fate.lastrowid, *lane, seq),
    )
    connection.execute(f"DELETE FROM frames {_PLACE}", (*lane, seq))
    _trim(connection)
    return True


def delete(connection: sqlite3.Connection, lane: Lane, seq: int) -> None:
    """A frame that is not needed any more goes."""
    if connection.execute(f"DELETE FROM frames {_PLACE}", (*lane, seq)).rowcount == 0:
        check_gone(connection, lane, seq)


def check_gone(connection: sqlite3.Connection, lane: Lane, seq: int) -> None:
    """sqlite3.DatabaseError, as of a damaged file, if the frame is there and the index does not find it."""
    rows = f"SELECT 1 FROM frames NOT INDEXED {_PLACE} LIMIT 1"
    if connection.execute(rows, (*lane, seq)).fetchone() is not None:
        raise sqlite3.DatabaseError(f"the index does not find frame {seq} of {lane}")


def find(connection: sqlite3.Connection, camera: str, seq: int) -> Fate | None:
    """What is known of a frame; None if it was acknowledged, forgotten or never here."""
    row = connection.execute(
        "SELECT device, 'spooled', '' FROM frames WHERE camera = ? AND seq = ? UNION ALL "
        "SELECT device, state, reason FROM fates WHERE camera = ? AND seq = ? LIMIT 1",
        (camera, seq, camera, seq),
    ).fetchone()
    return None if row is None else Fate(*row)


def forget_bitstreams(connection: sqlite3.Connection) -> None:
    """Make room: frames that were set aside cannot be sent again any more."""
    connection.execute("DELETE FROM remains")
    connection.execute("DELETE FROM letters")


def _trim(connection: sqlite3.Connection) -> None:
    (newest,) = connection.execute("SELECT IFNULL(MAX(id), 0) FROM fates").fetchone()
    for table, column in (("fates", "id"), ("remains", "fate"), ("letters", "fate")):
        connection.execute(f"DELETE FROM {table} WHERE {column} <= ?", (newest - KEPT_FATES,))

"""Frames that were set aside: who they are and why, and back into the queue with them.

The functions work on the spool's connection inside its transactions; `Quarantine` is for the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge.outbox import Outbox
from edge.reporting import frame_id, split_frame_id
from edge.spool import Spool
from edge.spool_file import FRAME_COLUMNS, StoredRow
from splitcodec.errors import InvalidRequest

REPLAYED_AT_ONCE: Final = 1000  # in one transaction
_FOUND: Final = "FROM fates LEFT JOIN letters ON letters.fate = id LEFT JOIN remains ON remains.fate = id"
_LETTERS: Final = "FROM fates JOIN letters ON letters.fate = id JOIN remains ON remains.fate = id"


@dataclass(frozen=True)
class DeadLetter:
    """A frame that is not sent any more; task: "" where it is not known.

    num_bytes: of its bitstream, 0 if that had to make room; replayable: it is whole, and can be sent again.
    """

    id: str
    device: str
    camera: str
    seq: int
    task: str
    reason: str
    num_bytes: int
    replayable: bool


@dataclass(frozen=True)
class QuarantineReport:
    """The last frames that were set aside, newest first, and how many there are in all."""

    total: int
    frames: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Replay:
    """Frames that wait for the cloud again, and how many more of those asked for can."""

    replayed: tuple[str, ...]
    left: int


class Quarantine:
    """Belongs to the event loop of its outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def report(self, limit: int) -> QuarantineReport:
        """At most `limit` frames. SpoolUnavailable."""
        return await self._outbox.spool.run(lambda spool: _report(spool.connection, limit))

    async def replay(self, camera: str | None, frame: str | None) -> Replay:
        """Send one frame again, or all of a camera, or all; each keeps its id. SpoolUnavailable.

        InvalidRequest: `frame` is no frame's id.
        """
        place = None if frame is None else split_frame_id(frame)
        if frame is not None and place is None:
            raise InvalidRequest(f"frame {frame[:200]!r} is no frame's id; ask GET /v1/quarantine for one")
        chosen = (camera, None) if place is None else place
        back, left = await self._outbox.spool.run(lambda spool: _replay(spool, *chosen))
        for device, name, seq in back:
            self._outbox.came_back((device, name), seq)
        return Replay(tuple(frame_id(name, seq) for _, name, seq in back), left)


def _report(connection: sqlite3.Connection, limit: int) -> QuarantineReport:
    (total,) = connection.execute("SELECT COUNT(*) FROM fates WHERE state = 'quarantined'").fetchone()
    rows = connection.execute(
        "SELECT device, camera, seq, IFNULL(task, ''), reason, IFNULL(LENGTH(bitstream), 0), "
        f"captured, crc, bitstream {_FOUND} WHERE state = 'quarantined' ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    letters = []
    for device, camera, seq, task, reason, size, captured, crc, bitstream in rows:
        whole = StoredRow(device, camera, seq, task, captured, crc, bitstream).frame() is not None
        name = frame_id(camera, seq)
        letters.append(DeadLetter(name, device, camera, seq, task, reason, size, whole))
    return QuarantineReport(total, tuple(letters))


def _replay(spool: Spool, camera: str | None, seq: int | None) -> tuple[list[tuple[str, str, int]], int]:
    """Frames that are back in the queue, and how many more could be.

    Their bytes are on the disk already, so no limit of the spool is in the way. Damaged ones stay.
    """
    connection = spool.connection
    chosen = "state = 'quarantined' AND (? IS NULL OR camera = ?) AND (? IS NULL OR seq = ?)"
    values = (camera, camera, seq, seq)
    fates = connection.execute(
        f"SELECT id {_LETTERS} WHERE {chosen} ORDER BY device, camera, seq", values
    ).fetchall()
    back: list[tuple[str, str, int]] = []
    left = 0
    for (fate,) in fates:
        row = connection.execute(f"SELECT {FRAME_COLUMNS}, worth {_LETTERS} WHERE id = ?", (fate,)).fetchone()
        if StoredRow(*row[:-1]).frame() is None:
            continue
        if len(back) == REPLAYED_AT_ONCE:
            left += 1
            continue
        _put_back(connection, fate, row, spool.now())
        back.append(row[:3])
    return back, left


def _put_back(connection: sqlite3.Connection, fate: int, row: Sequence[object], now: float) -> None:
    connection.execute(
        f"INSERT OR IGNORE INTO frames ({FRAME_COLUMNS}, worth, spooled, num_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, LENGTH(?))",
        (*row, now, row[6]),
    )
    connection.execute("DELETE FROM fates WHERE id = ?", (fate,))
    connection.execute("DELETE FROM letters WHERE fate = ?", (fate,))
    connection.execute("DELETE FROM remains WHERE fate = ?", (fate,))

"""Whether the index of a spool says what its table says: SQLite does not ask, and what it does not find there
is never sent."""

from __future__ import annotations

import sqlite3
from typing import Final

_INDEX: Final = "INDEXED BY sqlite_autoindex_frames_1"
_STORED: Final = "SELECT COUNT(*) FROM frames NOT INDEXED"
_INDEXED: Final = f"SELECT COUNT(*) FROM frames {_INDEX}"
_COUNTED: Final = "SELECT SUM(frames) FROM totals"
_UNFOUND: Final = (
    "SELECT device, camera, seq FROM frames AS stored NOT INDEXED WHERE NOT EXISTS "
    f"(SELECT 1 FROM frames AS found {_INDEX} WHERE found.device = stored.device "
    "AND found.camera = stored.camera AND found.seq = stored.seq AND found.id = stored.id) LIMIT 1"
)


def check_index(connection: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError, as of a damaged file: the index does not find a frame, or one that is not there.

    Bitstreams are not read: 100,000 frames take a tenth of a second, or one second from the disk.
    """
    stored, indexed, counted = (
        connection.execute(query).fetchone()[0] for query in (_STORED, _INDEXED, _COUNTED)
    )
    if stored != indexed:
        raise sqlite3.DatabaseError(f"{stored} frames are here, {indexed} are in their index")
    if stored != counted:
        raise sqlite3.DatabaseError(f"{stored} frames are here, {counted} were counted")
    if (unfound := connection.execute(_UNFOUND).fetchone()) is not None:
        raise sqlite3.DatabaseError(f"the index does not find the frame {unfound}")

"""Whether a row of the result database is what was written: SQLite does not notice a flipped bit in it.

A row that is not counts as damage to the database, see cloud.recovery.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

from google.protobuf.message import DecodeError

from splitcodec.damaged import SQLITE_ERRORS
from splitcodec.wire.v1.results_pb2 import TaskResult

CRC: Final = "(SELECT crc FROM checks WHERE checks.cursor = results.cursor)"
"""A column of a query on `results`; NULL for what was stored before version 5."""
_LOWER: Final = 2**32 - 1


def keep_crc(connection: sqlite3.Connection, cursor: int, result: bytes, output: bytes) -> None:
    """In the transaction that stores the row."""
    connection.execute("INSERT OR REPLACE INTO checks VALUES (?, ?)", (cursor, _crc(result, output)))


def forget_crcs(connection: sqlite3.Connection, until: int) -> None:
    """In the transaction that deletes the rows up to that cursor."""
    connection.execute("DELETE FROM checks WHERE cursor <= ?", (until,))


def crc_of(connection: sqlite3.Connection, cursor: int) -> int | None:
    """What was kept of that row, as far as it can be read."""
    try:
        row = connection.execute("SELECT crc FROM checks WHERE cursor = ?", (cursor,)).fetchone()
    except SQLITE_ERRORS:
        return None
    return None if row is None else row[0]


def is_whole(result: object, output: object, crc: object) -> bool:
    """Whether both match; output: None if it was not read, crc: None if none was kept."""
    if not isinstance(result, bytes) or not isinstance(output, bytes | None):
        return False
    if not isinstance(crc, int):
        return crc is None
    whole = output is None or zlib.crc32(output) == crc & _LOWER
    return whole and zlib.crc32(result) >> 1 == crc >> 32


def parse_row(cursor: int, data: bytes, output: bytes | None, crc: int | None) -> TaskResult:
    """The result of a row; output: None leaves it out.

    sqlite3.DatabaseError, as of a damaged file: the row is damaged.
    """
    try:
        if not is_whole(data, output, crc):
            raise DecodeError("it does not match its CRC32")
        result = TaskResult.FromString(data)
        if output is None:
            result.ClearField("output")  # a row of an old schema version has it in `data`
            result.output_left_out = True
        else:
            result.MergeFromString(output)
    except DecodeError as error:
        raise sqlite3.DatabaseError(f"the result at cursor {cursor} is damaged: {error}") from None
    result.cursor = cursor
    return result


def _crc(result: bytes, output: bytes) -> int:
    return zlib.crc32(result) >> 1 << 32 | zlib.crc32(output)

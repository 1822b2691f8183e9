"""The spool's SQLite file: schema, checksums, opening, and what happens to a damaged one."""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge import identity
from edge.spool_check import check_index
from edge.uplink import OutgoingFrame
from splitcodec.damaged import SQLITE_ERRORS, lenient, open_damaged, readable_rows
from splitcodec.first_page import keep_first_page, mend_first_page

log = logging.getLogger(__name__)

SPOOL_FILE: Final = "spool.sqlite3"
SCHEMA_VERSION: Final = 1
WAL_BYTES: Final = 16 * 2**20  # the write-ahead log is cut back to this once its content is in the file
DISK_RESERVE_BYTES: Final = 32 * 2**20  # of the disk are left alone: write-ahead log, state, others ...
DISK_RESERVE_SHARE: Final = 1 / 8  # ... or this much of a small one

SCHEMA: Final = """
BEGIN;
CREATE TABLE frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    task TEXT NOT NULL,
    captured INTEGER NOT NULL,  -- unix nanoseconds
    spooled REAL NOT NULL,      -- seconds of the spool's own clock
    worth INTEGER NOT NULL,     -- detections in the camera's last known result
    num_bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL,       -- CRC32 of the columns that are sent
    bitstream BLOB NOT NULL,
    UNIQUE (device, camera, seq)
);
CREATE TABLE fates (            -- frames that will not be sent any more
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,        -- quarantined or dropped
    reason TEXT NOT NULL
);
CREATE TABLE remains (          -- bitstreams of quarantined frames, while there is room
    fate INTEGER PRIMARY KEY,
    bitstream BLOB NOT NULL
);
CREATE INDEX fates_by_frame ON fates (camera, seq);
CREATE TABLE clock (seconds REAL NOT NULL);
INSERT INTO clock VALUES (0);
CREATE TABLE totals (frames INTEGER NOT NULL, num_bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER frames_in AFTER INSERT ON frames BEGIN
    UPDATE totals SET frames = frames + 1, num_bytes = num_bytes + NEW.num_bytes;
END;
CREATE TRIGGER frames_out AFTER DELETE ON frames BEGIN
    UPDATE totals SET frames = frames - 1, num_bytes = num_bytes - OLD.num_bytes;
END;
PRAGMA user_version = 1;
COMMIT;
"""
ADDED: Final = """
CREATE TABLE IF NOT EXISTS posts (  -- keys under which clients may repeat a request
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS letters (  -- with `remains`, what it takes to send quarantined frames again
    fate INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    captured INTEGER NOT NULL,
    worth INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
"""
"""Tables that came later; an edge of before leaves them alone."""
FRAME_COLUMNS: Final = "device, camera, seq, task, captured, crc, bitstream"
_READABLE: Final = (
    f"SELECT id, spooled, worth, {FRAME_COLUMNS} FROM frames NOT INDEXED WHERE id > ? ORDER BY id"
)

_KEYS: Final = "SELECT device, camera, seq FROM frames INDEXED BY sqlite_autoindex_frames_1"
_SAVED: Final = "SELECT 1 FROM frames WHERE device = ? AND camera = ? AND seq = ?"
_FATES: Final = (
    "SELECT id, device, camera, seq, state, reason FROM fates NOT INDEXED WHERE id > ? ORDER BY id"
)
_LOST: Final = (
    "INSERT INTO fates (device, camera, seq, state, reason) "
    "VALUES (?, ?, ?, 'quarantined', 'its row in the spool was damaged, and is lost')"
)


@dataclass(frozen=True)
class StoredRow:
    """The columns of a row that are sent, as the file gave them; nothing about them is trusted yet."""

    device: str
    camera: str
    seq: int
    task: object
    captured: int
    crc: int
    bitstream: object

    def frame(self) -> OutgoingFrame | None:
        """The frame, or None if the row is damaged."""
        if not isinstance(self.bitstream, bytes) or not isinstance(self.task, str):
            return None
        frame = OutgoingFrame(self.device, self.camera, self.seq, self.task, self.captured, self.bitstream)
        return frame if checksum(frame) == self.crc else None


def checksum(frame: OutgoingFrame) -> int:
    """CRC32 of all fields."""
    names = (frame.device, frame.camera, frame.seq, frame.task, frame.capture_time_nanos)
    return zlib.crc32(frame.bitstream, zlib.crc32("\0".join(map(str, names)).encode()))


def open_file(path: Path) -> sqlite3.Connection:
    """A connection that commits to disk before it returns. OSError, sqlite3.Error, UnicodeDecodeError; see
    `splitcodec.damaged.is_damage`."""
    mend_first_page(path)
    connection = _opened(path)
    keep_first_page(path, connection)
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = lenient
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema version {version}, this edge writes {SCHEMA_VERSION}")
        connection.executescript(ADDED + identity.TABLE)
        check_index(connection)
        connection.execute("BEGIN IMMEDIATE")  # a damaged header may open it for reading alone
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def bytes_in_use(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def disk_free(folder: Path, connection: sqlite3.Connection) -> int:
    """Bytes that the disk can still take, less a reserve, and those of the file that it can use again."""
    disk = os.statvfs(folder)
    pages, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_size")
    )
    reserve = min(DISK_RESERVE_BYTES, int(disk.f_blocks * disk.f_frsize * DISK_RESERVE_SHARE))
    return max(disk.f_bavail * disk.f_frsize - reserve, 0) + pages * size


@dataclass(frozen=True)
class Salvage:
    """Frames that were taken over, and how many more the damaged file said it held."""

    saved: int
    lost: int


def salvage(aside: Path, into: sqlite3.Connection) -> Salvage:
    """Copy every sound row that can still be read."""
    try:
        source = open_damaged(aside)
    except SQLITE_ERRORS as error:
        log.warning("%s: %s", aside, error)
        return Salvage(0, 0)
    saved = 0
    into.execute("BEGIN IMMEDIATE")
    for number, spooled, worth, *rest in readable_rows(source, _READABLE):
        if isinstance(spooled, float) and isinstance(worth, int) and StoredRow(*rest).frame() is not None:
            saved += into.execute(
                f"INSERT OR IGNORE INTO frames (id, spooled, worth, {FRAME_COLUMNS}, num_bytes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, spooled, worth, *rest, len(rest[-1])),
            ).rowcount
    into.execute("COMMIT")
    _copy_identity(source, into)
    _copy_fates(source, into)
    named = _name_lost(source, into)
    held = _held(source)
    source.close()
    return Salvage(saved, max(held - saved, named))


def _copy_fates(source: sqlite3.Connection, into: sqlite3.Connection) -> None:
    into.execute("BEGIN IMMEDIATE")
    for row in readable_rows(source, _FATES):
        if all(map(isinstance, row, (int, str, str, int, str, str))):
            into.execute("INSERT OR IGNORE INTO fates VALUES (?, ?, ?, ?, ?, ?)", row)
    into.execute("COMMIT")


def _name_lost(source: sqlite3.Connection, into: sqlite3.Connection) -> int:
    """Remember as quarantined the frames of which the index still has the key, and nothing else is left."""
    named = 0
    into.execute("BEGIN IMMEDIATE")
    try:
        for key in source.execute(_KEYS):
            if all(map(isinstance, key, (str, str, int))) and into.execute(_SAVED, key).fetchone() is None:
                into.execute(_LOST, key)
                named += 1
    except SQLITE_ERRORS as error:
        log.warning("not every frame that was lost can be named: %s", error)
    into.execute("COMMIT")
    return named


def _copy_identity(source: sqlite3.Connection, into: sqlite3.Connection) -> None:
    try:
        if (found := identity.read(source)) is not None:
            identity.keep(into, found)
    except SQLITE_ERRORS as error:
        log.warning("name and numbers cannot be read (%s); their second copy has them", error)


def _held(source: sqlite3.Connection) -> int:
    try:
        return int(source.execute("SELECT frames FROM totals").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError):  # UnicodeDecodeError is a ValueError
        return 0

"""The first page of a SQLite file, kept a second time beside it.

It has the file's header and the schema, without which nothing else in the file is found: one bit there would
take everything. All but a few counters in it stays the same from the creation of the last table on.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from pathlib import Path
from typing import Final

from splitcodec.damaged import DISK_ERRORS
from splitcodec.durable import write_durably

log = logging.getLogger(__name__)

PAGE_BYTES: Final = 4096
COUNTERS: Final = ((24, 40), (92, 100))  # changes, size, free pages; which SQLite wrote it
CHANGES: Final = (slice(40, 44), slice(60, 64))
"""SQLite counts changes of the schema, VACUUM among them; a release that makes one raises user_version."""
MAX_FLIPPED: Final = 8  # bytes: more is another file, not damage


def keep_first_page(path: Path, connection: sqlite3.Connection) -> None:
    """Keep the first page of a file that was mended and opened; on a full disk the file serves without it."""
    try:
        if _flipped(_first(path), _kept(path)) == []:
            return
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if len(page := _first(path)) == PAGE_BYTES:
            write_durably(_place(path), page + _crc(page))
    except DISK_ERRORS as error:
        log.warning("the first page of %s is not kept a second time: %s", path, error)


def mend_first_page(path: Path) -> bool:
    """Put back the bytes that have changed in the first page of a file that nobody has open, unless they make
    it another file; whether there were any. OSError."""
    if not path.exists():
        return False
    page, kept = bytearray(_first(path)), _kept(path)
    flipped = _flipped(page, kept)
    if not flipped or len(flipped) > MAX_FLIPPED:
        return False
    for at in flipped:
        page[at] = kept[at]
    with path.open("r+b") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    log.error("%s bytes of the first page of %s were damaged, and are put back", len(flipped), path)
    return True


def _flipped(page: bytes | bytearray, kept: bytes) -> list[int] | None:
    """Where they differ; None: they are not two states of one page."""
    if not len(page) == len(kept) == PAGE_BYTES or any(page[one] != kept[one] for one in CHANGES):
        return None
    moving = {at for begin, end in COUNTERS for at in range(begin, end)}
    return [at for at in range(PAGE_BYTES) if page[at] != kept[at] and at not in moving]


def _first(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PAGE_BYTES)


def _kept(path: Path) -> bytes:
    try:
        data = _place(path).read_bytes()
    except OSError:
        return b""
    page = data[:PAGE_BYTES]
    return page if data[PAGE_BYTES:] == _crc(page) else b""


def _crc(page: bytes) -> bytes:
    return zlib.crc32(page).to_bytes(4, "big")


def _place(path: Path) -> Path:
    return path.with_name(path.name + "-first-page")

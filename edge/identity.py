"""The device's name, and a ceiling above all its numbers: in the spool's database and beside it.

The functions on a connection are called inside the spool's transactions. The second copy is two small files,
`device` and `numbers`, so that a damaged database neither renames the device nor repeats a number.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitcodec.durable import write_durably
from splitcodec.wire.names import NAME_PATTERN

MAX_CEILING: Final = 2**62
NAME_FILE: Final = "device"
NUMBERS_FILE: Final = "numbers"
"""`CEILING CRC`: decimal, and the CRC32 of those digits as 8 hexadecimal ones."""

TABLE: Final = """
CREATE TABLE IF NOT EXISTS identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    device TEXT NOT NULL,
    ceiling INTEGER NOT NULL,   -- no frame of any camera has this number or a higher one
    crc INTEGER NOT NULL        -- CRC32 of both
);
"""
_HIGHEST: Final = "SELECT IFNULL(MAX(seq), -1) AS seq FROM {} WHERE seq < ?"
_HIGHEST_OF_ALL: Final = "SELECT MAX(seq) FROM ({})".format(
    " UNION ALL ".join(map(_HIGHEST.format, ("frames", "fates", "posts")))
)


@dataclass(frozen=True)
class Identity:
    """device: its name, None where it is not known; ceiling: 0 where it is not known."""

    device: str | None = None
    ceiling: int = 0

    @property
    def crc(self) -> int:
        """CRC32 of both."""
        return zlib.crc32(f"{self.device} {self.ceiling}".encode())

    @property
    def is_sound(self) -> bool:
        """Whether both can be used."""
        named = self.device is not None and re.fullmatch(NAME_PATTERN, self.device) is not None
        return named and 0 <= self.ceiling < MAX_CEILING


def read(connection: sqlite3.Connection) -> Identity | None:
    """What the database says; None where it says nothing, or its row is damaged. sqlite3.Error."""
    row = connection.execute("SELECT device, ceiling, crc FROM identity").fetchone()
    if row is None or not isinstance(row[0], str) or not isinstance(row[1], int):
        return None
    found = Identity(row[0], row[1])
    return found if found.is_sound and found.crc == row[2] else None


def keep(connection: sqlite3.Connection, identity: Identity) -> None:
    """Write it, in place of what was there."""
    connection.execute(
        "INSERT OR REPLACE INTO identity VALUES (1, ?, ?, ?)",
        (identity.device, identity.ceiling, identity.crc),
    )


def highest_seq(connection: sqlite3.Connection) -> int:
    """The highest number of a frame that the database knows of; -1 for none."""
    return int(connection.execute(_HIGHEST_OF_ALL, (MAX_CEILING,) * 3).fetchone()[0])


def read_copy(folder: Path) -> Identity:
    """What the second copy says. OSError."""
    name = _read(folder / NAME_FILE)
    ceiling, _, crc = _read(folder / NUMBERS_FILE).strip().partition(" ")
    known = ceiling.isdigit() and crc == _crc_of(ceiling) and int(ceiling) < MAX_CEILING
    return Identity(name if re.fullmatch(NAME_PATTERN, name) else None, int(ceiling) if known else 0)


def write_name(folder: Path, device: str) -> None:
    """Keep the name in the second copy, unless it has that one. OSError."""
    if _read(folder / NAME_FILE) != device:
        write_durably(folder / NAME_FILE, device.encode("ascii"))


def write_ceiling(folder: Path, ceiling: int) -> None:
    """Keep the ceiling in the second copy. OSError."""
    write_durably(folder / NUMBERS_FILE, f"{ceiling} {_crc_of(str(ceiling))}\n".encode("ascii"))


def _crc_of(digits: str) -> str:
    return f"{zlib.crc32(digits.encode('ascii')):08x}"


def _read(path: Path) -> str:
    """Empty where there is no such file, or no text in it."""
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""

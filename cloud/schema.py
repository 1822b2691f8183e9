"""The schema of the result database, as the steps that lead to it: a new file takes all of them, an older one
those it lacks.

A step and its version number are one transaction, so that a power cut leaves the version before it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_TO_VERSION_1: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE IF NOT EXISTS results (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    task TEXT NOT NULL,
    captured INTEGER NOT NULL,  -- unix nanoseconds, the device's clock
    stored INTEGER NOT NULL,    -- unix nanoseconds, this machine's clock
    result BLOB NOT NULL,       -- TaskResult without its cursor
    UNIQUE (device, camera, seq)
);
CREATE INDEX IF NOT EXISTS results_by_camera ON results (device, camera, cursor);
CREATE TABLE IF NOT EXISTS retired (
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    cursor INTEGER NOT NULL,    -- the newest deleted one
    PRIMARY KEY (device, camera)
) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""

# Every index ends with the rowid, which is the cursor: what one of these finds is in order already. `seq` in
# `retired` is the highest deleted one, never lowered and never deleted; -1: none since version 2.
_TO_VERSION_2: Final = """
BEGIN IMMEDIATE;
CREATE INDEX results_by_camera_name ON results (camera);
CREATE INDEX results_by_device ON results (device);
CREATE INDEX results_by_task ON results (task);
ALTER TABLE retired ADD COLUMN seq INTEGER NOT NULL DEFAULT -1;
PRAGMA user_version = 2;
COMMIT;
"""

# Since version 3 `result` lacks its output, and `output` is a TaskResult that has it alone; what was stored
# before keeps all in `result`. It is the last column: whoever reads without it reads none of its pages.
_TO_VERSION_3: Final = """
BEGIN IMMEDIATE;
ALTER TABLE results ADD COLUMN output BLOB NOT NULL DEFAULT x'';
PRAGMA user_version = 3;
COMMIT;
"""

# See cloud.chain_rows.
_TO_VERSION_4: Final = """
BEGIN IMMEDIATE;
CREATE TABLE chains (
    device TEXT NOT NULL,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    state BLOB NOT NULL,        -- name of the state that decoding it leaves
    bitstream BLOB NOT NULL,
    PRIMARY KEY (device, camera, seq)
);
CREATE INDEX chains_by_state ON chains (device, camera, state);
PRAGMA user_version = 4;
COMMIT;
"""

# 31 bits of the CRC32 of `result`, then the CRC32 of `output`; what was stored before version 5 has none. In
# a table of its own: a column behind `output` would cost whoever reads without it all of its pages.
_TO_VERSION_5: Final = """
BEGIN IMMEDIATE;
CREATE TABLE checks (
    cursor INTEGER PRIMARY KEY,
    crc INTEGER NOT NULL
);
PRAGMA user_version = 5;
COMMIT;
"""

_STEPS: Final = (_TO_VERSION_1, _TO_VERSION_2, _TO_VERSION_3, _TO_VERSION_4, _TO_VERSION_5)
SCHEMA_VERSION: Final = len(_STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of the file; 0: it is new."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file, of a version up to SCHEMA_VERSION, to SCHEMA_VERSION."""
    try:
        for step in _STEPS[version_of(connection) :]:
            connection.executescript(step)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

"""The bitstreams since each camera's last key frame, beside the results in the database: from them the state
of a camera is made again after a restart.

A frame's row is written in the transaction of its result. A key frame's row takes the place of those before
it; the rows of a camera go when its last result is deleted. Functions of a connection.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from cloud.messages import FrameKey
from splitcodec.held_bitstream import is_held, parse_held

_CLEAR: Final = "DELETE FROM chains WHERE device = ? AND camera = ? AND seq < ?"
_APPEND: Final = (
    "INSERT OR REPLACE INTO chains (device, camera, seq, state, bitstream) VALUES (?, ?, ?, ?, ?)"
)
_DROP: Final = (
    "DELETE FROM chains WHERE device = ? AND camera = ? "
    "AND NOT EXISTS (SELECT 1 FROM results WHERE device = ? AND camera = ?)"
)
_LINK: Final = (
    "SELECT seq, bitstream FROM chains WHERE device = ? AND camera = ? AND state = ? AND seq <= ? "
    "ORDER BY seq DESC LIMIT 1"
)


@dataclass(frozen=True)
class ChainLink:
    """A frame that others may build on. state: 4 bytes, the name of the state after it."""

    state: bytes
    bitstream: bytes


def append(connection: sqlite3.Connection, key: FrameKey, link: ChainLink) -> None:
    """Keep a frame's bitstream; for a transaction of the caller."""
    if not is_held(link.bitstream):
        connection.execute(_CLEAR, key.columns())
    connection.execute(_APPEND, (*key.columns(), link.state, link.bitstream))


def drop_if_unused(connection: sqlite3.Connection, lane: tuple[str, str]) -> None:
    """Forget a camera that has no result any more."""
    connection.execute(_DROP, (*lane, *lane))


def chain_to(connection: sqlite3.Connection, lane: tuple[str, str], state: bytes, below: int) -> list[bytes]:
    """The bitstreams whose decoding, in order, ends in that state, a key frame first; empty if one is gone.

    below: a seq; only frames before it count. BitstreamError: a row is damaged.
    """
    links: list[bytes] = []
    wanted, last = state, below - 1
    while True:
        row = connection.execute(_LINK, (*lane, wanted, last)).fetchone()
        if row is None:
            return []
        seq, bitstream = row
        links.append(bitstream)
        if not is_held(bitstream):
            return links[::-1]
        wanted, last = parse_held(bitstream).state, seq - 1

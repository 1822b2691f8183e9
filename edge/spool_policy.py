"""What leaves a full spool: nothing (reject), the oldest frames, or all but every n-th (thin).

Thinning spreads the loss over the outage instead of forgetting its beginning. Frames that were taken while
their camera's results had detections, as far as results were known then, are thinned after the others. Frames
that hold cells build on those before them: they are thinned by whole chains, and whichever frame goes, those
up to the camera's next key frame go with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edge.spool_types import Lane
from splitcodec.held_bitstream import KIND

Policy = Literal["reject", "drop-oldest", "thin"]
PASS_ROWS: Final = 10_000  # rows looked at per pass; bounds how long one commit waits
OLDEST_ROWS: Final = 32


@dataclass(frozen=True)
class SpoolLimits:
    """max_bytes: of the database that are in use; max_age_s: of running time; keep_every: for thinning."""

    max_bytes: int
    max_age_s: float
    policy: Policy = "reject"
    keep_every: int = 2


@dataclass(frozen=True)
class Victim:
    """A row that may go."""

    row: int
    device: str
    camera: str
    seq: int
    num_bytes: int


Protected = Callable[[str, str, int], bool]
"""Whether the frame (device, camera, seq) was handed out for sending and must stay."""


def passes(
    connection: sqlite3.Connection, limits: SpoolLimits, protected: Protected
) -> Iterator[tuple[str, list[Victim]]]:
    """Groups of rows to delete, each with its reason, until the caller has room; none for `reject`.

    The caller deletes a group before it asks for the next one.
    """
    if limits.policy == "thin":
        for worth in ("worth = 0", "worth > 0"):
            yield "thinned", _thinned(connection, limits.keep_every, worth, protected)
    while limits.policy != "reject":
        oldest = _oldest(connection, protected)
        if not oldest:
            return
        yield "oldest", oldest


def expired(connection: sqlite3.Connection, spooled_before: float, protected: Protected) -> list[Victim]:
    """Up to PASS_ROWS rows from before that time of the spool's clock."""
    query = f"SELECT {_COLUMNS} FROM frames WHERE spooled < ? ORDER BY id LIMIT {PASS_ROWS}"
    return _victims(connection.execute(query, (spooled_before,)), protected)


_COLUMNS: Final = "id, device, camera, seq, num_bytes"
_IS_KEY: Final = f"substr(bitstream, 1, 1) != x'{KIND:02X}'"

_FOLLOWING: Final = (
    f"SELECT {_IS_KEY}, {_COLUMNS} FROM frames WHERE device = ? AND camera = ? AND seq > ? ORDER BY seq"
)


@dataclass(frozen=True)
class Falling:
    """Rows that go; ends: the lanes whose last frame is among them."""

    victims: list[Victim]
    ends: set[Lane]


def with_followers(connection: sqlite3.Connection, victims: Sequence[Victim]) -> Falling:
    """The victims, and the frames that cannot be decoded without them."""
    falling = {victim.row: victim for victim in victims}
    ends: set[Lane] = set()
    for victim in victims:
        lane = (victim.device, victim.camera)
        following = connection.execute(_FOLLOWING, (*lane, victim.seq))
        for is_key, *columns in following:
            follower = Victim(*columns)
            if is_key or follower.row in falling:
                break
            falling[follower.row] = follower
        else:
            ends.add(lane)
    return Falling(sorted(falling.values(), key=lambda one: one.row), ends)


def _oldest(connection: sqlite3.Connection, protected: Protected) -> list[Victim]:
    chosen: list[Victim] = []
    for row in connection.execute(f"SELECT {_COLUMNS} FROM frames ORDER BY id"):
        victim = Victim(*row)
        if not protected(victim.device, victim.camera, victim.seq):
            chosen.append(victim)
            if len(chosen) == OLDEST_ROWS:
                break
    return chosen


def _thinned(
    connection: sqlite3.Connection, keep_every: int, worth: str, protected: Protected
) -> list[Victim]:
    """All but every keep_every-th chain of each camera among the oldest PASS_ROWS frames; a key frame that
    nothing builds on is a chain of its own."""
    numbered = (
        f"SELECT {_COLUMNS}, worth, SUM({_IS_KEY}) OVER (PARTITION BY device, camera ORDER BY seq) AS chain "
        f"FROM (SELECT * FROM frames ORDER BY id LIMIT {PASS_ROWS})"
    )
    joined = (
        f"SELECT {_COLUMNS}, MAX(worth) OVER (PARTITION BY device, camera, chain) AS worth, "
        f"chain - MIN(chain) OVER (PARTITION BY device, camera) AS place FROM ({numbered})"
    )
    query = f"SELECT {_COLUMNS} FROM ({joined}) WHERE place % ? != 0 AND {worth} ORDER BY id"
    return _victims(connection.execute(query, (keep_every,)), protected)


def _victims(rows: sqlite3.Cursor, protected: Protected) -> list[Victim]:
    victims = [Victim(*row) for row in rows]
    return [one for one in victims if not protected(one.device, one.camera, one.seq)]

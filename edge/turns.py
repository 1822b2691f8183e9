"""Whose frame goes next: that of a camera whose frames are fresh, and every fourth time one of a backlog.

So neither starves the other.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from edge.lane import CameraLane
from edge.uplink import OutgoingFrame

BACKLOG_TURN: Final = 4  # every so many-th frame comes from a backlog, if there is one
FRESH_S: Final = 2.0  # a camera with fresh frames keeps places on the stream free this long


class Turns:
    """Chooses among lanes; times are of the event loop's clock."""

    def __init__(self) -> None:
        self._turns = 0
        self._fresh_at = -FRESH_S

    def take(self, lane: CameraLane) -> None:
        """A frame of that lane goes."""
        self._turns += 1
        lane.turn = self._turns

    def choose(self, lanes: Collection[CameraLane], places: int, now: float) -> CameraLane | None:
        """The lane whose frame goes next; None if there is none, or no place."""
        under_way = [one for lane in lanes for one in lane.under_way.values()]
        if len(under_way) >= places:
            return None
        fresh: list[CameraLane] = []
        backlog: list[CameraLane] = []
        for lane in lanes:
            if not lane.may_send(now):
                continue
            if lane.must_read or isinstance(chosen := lane.next(), OutgoingFrame):
                backlog.append(lane)
            elif chosen is not None:
                fresh.append(lane)
        if fresh:
            self._fresh_at = now
        room = places if now - self._fresh_at > FRESH_S else max(1, places // BACKLOG_TURN)
        if sum(one.from_disk for one in under_way) >= room:
            backlog = []
        turn = fresh if fresh and (not backlog or self._turns % BACKLOG_TURN) else backlog
        return min(turn, key=lambda lane: lane.turn, default=None)

    def until_something(self, lanes: Collection[CameraLane], now: float) -> float | None:
        """Seconds until a lane may go on by itself; None if none will."""
        held = [lane.held_until - now for lane in lanes if lane.is_held(now)]
        if any(lane.backlogged for lane in lanes):
            held.append(FRESH_S)
        return min(held, default=None)

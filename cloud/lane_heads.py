"""Which frames can only be new: the highest seq of each camera that the store ever knew.

A camera numbers its frames upwards, so nearly every frame that comes in is above all of its camera; it needs
no look into the database before the graphs run. What is wrong here costs a run of the graphs at most: the
commit looks again, in its own transaction.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_LANES: Final = 10_000  # cameras kept in mind; of others the store is asked

Lane = tuple[str, str]
"""Device and camera."""


class LaneHeads:
    """Highest seq by lane, -1 for a lane without a frame; forgets those that were silent longest."""

    def __init__(self, max_lanes: int = MAX_LANES) -> None:
        self._heads: OrderedDict[Lane, int] = OrderedDict()
        self._max_lanes = max_lanes

    def get(self, lane: Lane) -> int | None:
        """None: not known here."""
        return self._heads.get(lane)

    def learn(self, lane: Lane, seq: int) -> None:
        """What the store said of a lane, deleted frames included; a higher seq that came since stays."""
        self._heads[lane] = max(seq, self._heads.get(lane, -1))
        self._heads.move_to_end(lane)
        while len(self._heads) > self._max_lanes:
            self._heads.popitem(last=False)

    def stored(self, lane: Lane, seq: int) -> None:
        """A frame was committed. Of a lane that is not known this says nothing: it may have higher ones."""
        if lane in self._heads:
            self.learn(lane, seq)

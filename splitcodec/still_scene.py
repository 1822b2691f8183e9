"""Whether a picture differs enough from the last one that was sent, for cameras whose scene mostly rests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 64
HEIGHT: Final = 48
"""A picture is compared at this size, in grey."""
_BLOCK: Final = 8
STILL_S: Final = 60.0
"""At least this often a picture is sent, so that a camera whose scene rests is not taken for a dead one."""

Grey = NDArray[np.uint8]


class ChangeGate:
    """Lets a picture pass that has changed, in some block of 8 x 8 of its 64 x 48 points, by `min_change`."""

    def __init__(self, min_change: float, clock: Callable[[], float] = time.monotonic) -> None:
        """min_change: mean difference of a block in grey levels, 0..255; 0 lets everything pass."""
        self._min_change = min_change
        self._clock = clock
        self._sent: Grey | None = None
        self._sent_at = 0.0

    def passes(self, grey: Grey) -> bool:
        """Whether a picture, [48, 64], is to be sent; the next ones are compared with it then."""
        now = self._clock()
        rests = self._sent is not None and change(self._sent, grey) < self._min_change
        if rests and now - self._sent_at < STILL_S:
            return False
        self._sent, self._sent_at = grey, now
        return True


def change(before: Grey, after: Grey) -> float:
    """The largest mean difference of a block, in grey levels. Both [48, 64]."""
    difference = np.abs(after.astype(np.int16) - before)
    blocks = difference.reshape(HEIGHT // _BLOCK, _BLOCK, WIDTH // _BLOCK, _BLOCK)
    return float(blocks.mean(axis=(1, 3)).max())

"""How often one caller may ask: a token bucket each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_KEYS: Final = 10_000
"""Callers remembered; the one that was quiet longest is forgotten first, its bucket is fullest."""


class Throttle:
    """Token buckets by key; for one thread at a time. Memory is bounded whatever keys come."""

    def __init__(self, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """rate_per_s: requests per second on average, above 0; burst: requests at once after a pause."""
        self._rate = rate_per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at this time

    def take(self, key: str) -> float:
        """0 if the request may pass now; otherwise the seconds until one may, and nothing is taken."""
        left = self._filled(key)
        if left >= 1:
            self._put(key, left - 1)
            return 0.0
        return (1 - left) / self._rate

    def reserve(self, key: str) -> float:
        """Seconds that this request must wait for its turn, which is now taken: for callers that can wait."""
        left = self._filled(key) - 1
        self._put(key, left)
        return max(0.0, -left / self._rate)

    def _filled(self, key: str) -> float:
        left, then = self._buckets.get(key, (self._burst, 0.0))
        return min(self._burst, left + max(0.0, self._clock() - then) * self._rate)

    def _put(self, key: str, left: float) -> None:
        self._buckets[key] = left, self._clock()
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)

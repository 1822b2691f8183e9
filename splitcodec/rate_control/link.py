"""How fast a link delivers, learned from when frames were sent and when they were acknowledged.

Each acknowledgement gives a rate sample: the bytes delivered since just before that frame was sent, over the
time it took (as in BBR, draft-ietf-ccwg-bbr). A sample lowers the estimate only if the frame met a queue,
that is if another was under way when it left and it took clearly longer than an uncontended one; any other
sample says no more than "at least so fast". While nothing queues, the estimate rises, slowly at first.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

AVERAGING_S: Final = 0.4  # time constant of the estimate under queueing
CREEP_PER_S: Final = 0.02  # without a queue the estimate creeps up ...
CREEP_MOST: Final = 0.12  # ... to a little above what was measured, so that a queue would show ...
LEAP_AFTER_S: Final = 9.0  # ... and only when none did by then, grows by exp(LEAP_GROWTH * t**3)
LEAP_GROWTH: Final = 0.02
QUEUE_FACTOR: Final = 2.0  # a frame met a queue if it took this many base latencies ...
QUEUE_MARGIN_S: Final = 0.1  # ... and this much; that is safe against a busy cloud and two cameras at once
NEAR_FACTOR: Final = 1.15  # the same once a limit is known: a probe must end before its queue is long
NEAR_MARGIN_S: Final = 0.05
OVERDUE_S: Final = 0.4  # a frame is overdue when nothing came for QUEUE_FACTOR base latencies and this
BASE_WINDOW_S: Final = 20.0  # the base latency is the lowest one this long
UNLIMITED_BPS: Final = 1e9  # an estimate beyond this limits nothing any more


@dataclass(frozen=True)
class Sent:
    """A frame under way, as `LinkMeter.sent` returned it."""

    num_bytes: int
    at: float
    delivered_before: int
    since: float | None  # the link was busy from this delivery on; None: it may have been idle


class LinkMeter:
    """The link of one device; all its cameras share it. Bits per second; None: no limit was ever met."""

    def __init__(self) -> None:
        self._delivered = 0
        self._last_delivery = -math.inf
        self._under_way: dict[int, Sent] = {}
        self._latencies: deque[tuple[float, float]] = deque()  # (time, seconds), a window minimum
        self._estimate: float | None = None
        self._measured_at = 0.0

    @property
    def bytes_under_way(self) -> int:
        """Sent and not yet delivered or lost."""
        return sum(frame.num_bytes for frame in self._under_way.values())

    @property
    def base_latency(self) -> float:
        """Seconds until an uncontended frame is acknowledged, beyond the time its bytes take."""
        return max(self._latencies[0][1], 0.0) if self._latencies else 0.0

    def sent(self, num_bytes: int, now: float) -> Sent:
        """A frame leaves; hand the return value to `delivered` or `lost`."""
        contended = bool(self._under_way)
        busy_since = self._last_delivery if contended and self._last_delivery > self._oldest() else None
        frame = Sent(num_bytes, now, self._delivered, busy_since)
        self._under_way[id(frame)] = frame
        return frame

    def delivered(self, frame: Sent, now: float) -> None:
        """It was acknowledged."""
        self._under_way.pop(id(frame), None)
        self._delivered += frame.num_bytes
        self._last_delivery = now
        latency = now - frame.at
        if frame.since is None or latency <= self._queue_latency(frame.num_bytes, now):
            self._note_latency(latency - self._transmission(frame.num_bytes, now), now)
        elif now > frame.since:
            span = now - frame.since
            self._measured(8 * (self._delivered - frame.delivered_before) / span, span, now)

    def lost(self, frame: Sent) -> None:
        """It will not be acknowledged: the call failed, or the frame was given up."""
        self._under_way.pop(id(frame), None)

    def capacity(self, now: float) -> float | None:
        """What the link delivers now. While the oldest frame is overdue, no more than its bytes allow."""
        bound = self._overdue_bound(now)
        return self._grown(now) if bound is None else bound

    def _overdue_bound(self, now: float) -> float | None:
        """The estimate as the wait for the oldest frame limits it; None while that is not overdue."""
        if not self._under_way:
            return None
        oldest = min(self._under_way.values(), key=lambda frame: frame.at)
        waited = now - max(self._last_delivery, oldest.at)
        expected = self.base_latency + self._transmission(oldest.num_bytes, now)
        if waited <= QUEUE_FACTOR * expected + OVERDUE_S:
            return None
        bound, estimate = 8 * oldest.num_bytes / waited, self._grown(now)
        return bound if estimate is None else min(estimate, bound)

    def _measured(self, sample: float, span: float, now: float) -> None:
        """The link was busy for `span` seconds and delivered `sample` bits per second."""
        estimate = self._grown(now)
        weight = -math.expm1(-span / AVERAGING_S)
        self._estimate = sample if estimate is None else estimate + weight * (sample - estimate)
        self._measured_at = now

    def _grown(self, now: float) -> float | None:
        """The estimate, after its growth since it was measured; None once it is too high to matter."""
        if self._estimate is None:
            return None
        quiet = now - self._measured_at
        leap = LEAP_GROWTH * max(quiet - LEAP_AFTER_S, 0.0) ** 3
        grown = self._estimate * math.exp(min(min(CREEP_PER_S * quiet, CREEP_MOST) + leap, 50.0))
        return grown if grown < UNLIMITED_BPS else None

    def _queue_latency(self, num_bytes: int, now: float) -> float:
        """A contended frame that takes longer than this met a queue."""
        if self._estimate is None:
            return QUEUE_FACTOR * self.base_latency + QUEUE_MARGIN_S
        return NEAR_FACTOR * self.base_latency + NEAR_MARGIN_S + self._transmission(num_bytes, now)

    def _transmission(self, num_bytes: int, now: float) -> float:
        """Seconds that the bytes themselves take, where the capacity is known."""
        estimate = self._grown(now)
        return 0.0 if estimate is None else 8 * num_bytes / estimate

    def _oldest(self) -> float:
        return min(frame.at for frame in self._under_way.values())

    def _note_latency(self, latency: float, now: float) -> None:
        while self._latencies and self._latencies[-1][1] >= latency:
            self._latencies.pop()
        self._latencies.append((now, latency))
        while self._latencies[0][0] < now - BASE_WINDOW_S:
            self._latencies.popleft()

"""The law: a leaky bucket that drains at the allowed bitrate says what the next frame may cost.

The bucket's level is the debt, in bits: what was sent beyond the allowed bitrate, below zero what was saved.
The next frame may cost its share of the allowance, less a part of the debt; the camera's BytesModel turns
that into a rate point. A debt that even rate 0 cannot pay back asks for frames to be left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from splitcodec.rate_control.bytes_model import BytesModel, RatePoints
from splitcodec.rate_control.link import LinkMeter

PAYBACK_S: Final = 2.0  # a debt or a saving is spread over this long
CREDIT_S: Final = 1.0  # no more than so many seconds of allowance are saved up
DEBT_S: Final = 1.0  # more debt than this: the lowest rate does not fit
LINK_SHARE: Final = 0.92  # of the measured capacity; the rest empties queues and pays for framing
LEAST_SHARE: Final = 0.125  # of the target is allowed even while nothing is delivered
DRAIN_SHARE: Final = 0.5  # of the allowance is the most that an old backlog may take from live frames
TOO_BIG: Final = 1.25  # times its budget: a frame is coded once more, at a lower rate
CLIMB_PER_S: Final = 1.5  # rate steps per second; downwards there is no limit
PACE_WEIGHT: Final = 0.2  # of the newest interval in the average
LONGEST_INTERVAL_S: Final = 5.0


@dataclass(frozen=True)
class Goal:
    """What an operator wants of a camera: bitrate, and seconds from the capture to the result."""

    target_kbps: float
    deadline_s: float

    @property
    def target_bps(self) -> float:
        """The target in bits per second."""
        return 1000 * self.target_kbps


@dataclass(frozen=True)
class Choice:
    """The decision on one frame.

    rate: from 0 to max_rate; fits: False when even rate 0 sends more than is allowed, so that the frame
    should be left out or queued; allowed_bps: target, link and backlog together.
    """

    rate: float
    fits: bool
    allowed_bps: float


class RateController:
    """One camera. Ask `choose` before each frame, tell `coded` what it cost; a frame left out is not told."""

    def __init__(self, points: Mapping[str, RatePoints], max_rate: float, goal: Goal) -> None:
        """points: the curve of each task; a task without one starts from a typical curve over 0..max_rate."""
        self.goal = goal
        self._points = points
        self._max_rate = max_rate
        self._models: dict[str, BytesModel] = {}
        self._debt = 0.0
        self._drained_at: float | None = None
        self._asked_at: float | None = None
        self._interval: float | None = None
        self._allowed = goal.target_bps
        self._last_rate: float | None = None
        self._budget = math.inf

    def choose(
        self, task: str, link: LinkMeter, backlog_bytes: int, now: float, share: float = 1.0
    ) -> Choice:
        """The rate of the frame that came at `now`.

        backlog_bytes: waiting in the spool, not yet sent; share: this camera's part of the link, 0 to 1.
        """
        model = self._model(task)
        interval, since = self._paced(model, now)
        self._drain(now)
        self._allowed = self._allowance(link, backlog_bytes, now, share)
        budget = interval * (self._allowed - self._debt / PAYBACK_S) / 8
        cap = self._deadline_bytes(link, now, share)
        self._budget = budget if cap is None else min(budget, cap)
        wanted = model.rate_for(self._budget)
        if self._last_rate is not None:
            wanted = min(wanted, self._last_rate + CLIMB_PER_S * since)
        least_bits = 8 * model.num_bytes(0.0)
        fits = wanted > 0 or self._debt + least_bits <= max(self._allowed * DEBT_S, least_bits)
        self._last_rate = wanted
        return Choice(wanted, fits, self._allowed)

    def lower_rate(self, task: str, rate: float, num_bytes: int) -> float | None:
        """The rate to code the frame at in its place if it came out far too big; None to leave it.

        For the frame that was chosen last, before `coded` is told of it.
        """
        if num_bytes <= TOO_BIG * self._budget:
            return None
        lower = self._model(task).lower_rate(rate, num_bytes, self._budget)
        return lower if lower < rate else None

    def coded(self, task: str, rate: float, num_bytes: int, now: float) -> None:
        """A frame was coded at `rate`, whoever chose it, and will be sent."""
        self._drain(now)
        self._debt = min(self._debt, DEBT_S * self._allowed) + 8 * num_bytes
        self._model(task).observe(rate, num_bytes)

    def _paced(self, model: BytesModel, now: float) -> tuple[float, float]:
        """The average interval between frames and the newest one, in seconds.

        Before there is one, the first frame may cost what an average frame does at mid-range.
        """
        asked, self._asked_at = self._asked_at, now
        if asked is None:
            return 8 * model.num_bytes(self._max_rate / 2) / self.goal.target_bps, LONGEST_INTERVAL_S
        newest = min(max(now - asked, 0.0), LONGEST_INTERVAL_S)
        step = 0.0 if self._interval is None else newest - self._interval
        self._interval = newest if self._interval is None else self._interval + PACE_WEIGHT * step
        return self._interval, newest

    def _drain(self, now: float) -> None:
        if self._drained_at is not None:
            self._debt -= self._allowed * max(now - self._drained_at, 0.0)
        self._drained_at = now
        self._debt = max(self._debt, -CREDIT_S * self._allowed)

    def _allowance(self, link: LinkMeter, backlog_bytes: int, now: float, share: float) -> float:
        target, capacity = self.goal.target_bps, link.capacity(now)
        if capacity is None:
            return target
        usable = LINK_SHARE * capacity * share
        waiting = 8 * share * (backlog_bytes + link.bytes_under_way)
        normal = capacity * share * (link.base_latency + self.goal.deadline_s / 4)
        drained = max(waiting - normal, 0.0) / (self.goal.deadline_s / 2)
        return min(target, max(usable - min(drained, DRAIN_SHARE * usable), LEAST_SHARE * target))

    def _deadline_bytes(self, link: LinkMeter, now: float, share: float) -> float | None:
        """A frame of more bytes than this would be late even on an empty link."""
        capacity = link.capacity(now)
        if capacity is None:
            return None
        return capacity * max(self.goal.deadline_s - link.base_latency, self.goal.deadline_s / 4) / 8

    def _model(self, task: str) -> BytesModel:
        if task not in self._models:
            self._models[task] = BytesModel(self._points.get(task) or RatePoints(self._max_rate))
        return self._models[task]

"""The last minutes in steps of a few seconds: what went out, what it was made from, how long answers took.

For people who look at the edge itself; Prometheus has the long term. Memory is bounded by STEPS times the
cameras served.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge.report import HistoryReport, HistoryStep

STEP_S: Final = 5.0
STEPS: Final = 60


@dataclass
class _Sums:
    frames: int = 0
    num_bytes: int = 0
    picture_bytes: int = 0
    answers: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    def add(self, other: _Sums) -> None:
        self.frames += other.frames
        self.num_bytes += other.num_bytes
        self.picture_bytes += other.picture_bytes
        self.answers += other.answers
        self.total_s += other.total_s
        self.longest_s = max(self.longest_s, other.longest_s)


@dataclass(frozen=True)
class _Step:
    number: int
    cameras: dict[str, _Sums]


class History:
    """Counts by camera; for one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: unix time in seconds."""
        self._clock = clock
        self._steps: deque[_Step] = deque(maxlen=STEPS)

    def coded(self, camera: str, num_bytes: int, picture_bytes: int) -> None:
        """A frame became a bitstream of num_bytes; its picture's file had picture_bytes."""
        sums = self._now(camera)
        sums.frames += 1
        sums.num_bytes += num_bytes
        sums.picture_bytes += picture_bytes

    def answered(self, camera: str, seconds: float) -> None:
        """A frame's answer came so long after the frame."""
        sums = self._now(camera)
        sums.answers += 1
        sums.total_s += seconds
        sums.longest_s = max(sums.longest_s, seconds)

    def report(self, camera: str | None) -> HistoryReport:
        """STEPS steps up to now, oldest first, those without a frame too; camera None: all together."""
        last = self._number()
        kept = {step.number: step.cameras for step in self._steps}
        steps = []
        for number in range(last - STEPS + 1, last + 1):
            sums = _Sums()
            for name, one in kept.get(number, {}).items():
                if camera in (None, name):
                    sums.add(one)
            mean = sums.total_s / sums.answers if sums.answers else None
            longest = sums.longest_s if sums.answers else None
            steps.append(
                HistoryStep(
                    number * STEP_S,
                    sums.frames,
                    sums.num_bytes,
                    sums.picture_bytes,
                    sums.answers,
                    mean,
                    longest,
                )
            )
        return HistoryReport(STEP_S, tuple(steps))

    def _number(self) -> int:
        return int(self._clock() // STEP_S)

    def _now(self, camera: str) -> _Sums:
        number = self._number()
        if (
            not self._steps or self._steps[-1].number < number
        ):  # a clock that went back stays in the newest step
            self._steps.append(_Step(number, {}))
        return self._steps[-1].cameras.setdefault(camera, _Sums())

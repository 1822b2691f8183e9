"""The rate control law on real frames over a link that follows a trace, in time that is computed, not waited.

Every frame is really coded, so its bytes are real; the link is a queue that drains as the trace says. The
same sequence, trace and pack give the same numbers on every machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bench.trace import Trace
from splitcodec.codec import Again
from splitcodec.rate_control import LinkMeter, RateController
from splitcodec.rate_control.link import Sent

ANSWER_S: Final = 0.06  # from the last byte of a frame to its acknowledgement: way there and back, and cloud

Coder = Callable[[NDArray[np.uint8], float, Again], tuple[float, int]]
"""(picture, rate, see FeatureEncoder.compress) -> rate as coded, bytes."""


@dataclass(frozen=True)
class TraceFrame:
    """One frame of a run. at, delay_s: seconds; num_bytes: 0 if it was left out; delay_s: to the answer."""

    at: float
    rate: float
    num_bytes: int
    fits: bool
    delay_s: float


class SimulatedLink:
    """First in, first out, at the bandwidth of a trace."""

    def __init__(self, trace: Trace, meter: LinkMeter) -> None:
        self._trace = trace
        self._meter = meter
        self._free_at = 0.0
        self._answers: deque[tuple[float, Sent]] = deque()

    def send(self, num_bytes: int, now: float) -> float:
        """Seconds until the frame is answered."""
        self._free_at = self._trace.finish(max(now, self._free_at), 8 * num_bytes)
        self._answers.append((self._free_at + ANSWER_S, self._meter.sent(num_bytes, now)))
        return self._free_at + ANSWER_S - now

    def advance(self, now: float) -> None:
        """Tell the meter of everything that was answered by now."""
        while self._answers and self._answers[0][0] <= now:
            at, frame = self._answers.popleft()
            self._meter.delivered(frame, at)


def run_trace(
    pictures: Iterable[NDArray[np.uint8]],
    fps: float,
    coder: Coder,
    controller: RateController,
    task: str,
    trace: Trace,
    thin: bool,
    progress: Callable[[], None] = lambda: None,
) -> list[TraceFrame]:
    """Every frame of the sequence; thin: leave frames out where even rate 0 does not fit."""
    meter = LinkMeter()
    link = SimulatedLink(trace, meter)
    frames = []
    for index, picture in enumerate(pictures):
        now = index / fps
        link.advance(now)
        choice = controller.choose(task, meter, 0, now)
        if thin and not choice.fits:
            frames.append(TraceFrame(now, choice.rate, 0, False, 0.0))
        else:
            rate, num_bytes = coder(picture, choice.rate, partial(controller.lower_rate, task))
            controller.coded(task, rate, num_bytes, now)
            frames.append(TraceFrame(now, rate, num_bytes, choice.fits, link.send(num_bytes, now)))
        progress()
    return frames

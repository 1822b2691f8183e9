"""What a run of rate control is judged by: does it hold the target, react, and keep still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from splitcodec.bench.rate_run import TraceFrame
from splitcodec.bench.trace import Trace

HOLD_S: Final = 10.0  # the target must hold over every window of this length
SETTLE_S: Final = 5.0  # after the start, and after each change of the link
REACTION_S: Final = 1.0  # a reaction is seen in the bitrate over this long
SWING_S: Final = 2.0  # a swing is the distance from the mean of this long


@dataclass(frozen=True)
class RateFigures:
    """Figures of one run; None where the trace gives no occasion.

    hold_error: largest share by which a window of HOLD_S missed the target while the link carried it;
    reaction_s: from a fall of the link below the target to the first REACTION_S in which no more was sent
    than it carries (or, where no frame may be left out, all were at rate 0), the longest; swing: largest
    distance, in rate points, of a frame from the mean around it on a steady link; delay_s: of the frames
    that were answered within the run.
    """

    frames: int
    left_out: int
    mean_kbps: float
    hold_error: float | None
    reaction_s: float | None
    swing: float | None
    delay_median_s: float
    delay_p95_s: float


def figures(
    frames: Sequence[TraceFrame], trace: Trace, target_bps: float, fps: float, thin: bool
) -> RateFigures:
    """The figures of a run that has at least one frame; thin: frames may have been left out."""
    seconds = len(frames) / fps
    delays = [frame.delay_s for frame in frames if frame.num_bytes and np.isfinite(frame.delay_s)] or [0.0]
    return RateFigures(
        frames=len(frames),
        left_out=sum(not frame.num_bytes for frame in frames),
        mean_kbps=kbps(frames, 0, seconds),
        hold_error=_hold_error(frames, trace, target_bps, seconds),
        reaction_s=_reaction(frames, trace, target_bps, seconds, thin),
        swing=_swing(frames, trace, seconds),
        delay_median_s=float(np.median(delays)),
        delay_p95_s=float(np.percentile(delays, 95)),
    )


def kbps(frames: Sequence[TraceFrame], begin: float, end: float) -> float:
    """Kilobits per second that were sent between two times."""
    return sum(8 * frame.num_bytes for frame in frames if begin <= frame.at < end) / (end - begin) / 1000


def _hold_error(
    frames: Sequence[TraceFrame], trace: Trace, target_bps: float, seconds: float
) -> float | None:
    errors = [
        abs(1000 * kbps(frames, begin, begin + HOLD_S) / target_bps - 1)
        for begin in np.arange(SETTLE_S, seconds - HOLD_S + 1e-9, 0.5)
        if trace.least(begin - SETTLE_S, begin + HOLD_S) > 1.2 * target_bps
    ]
    return max(errors, default=None)


def _reaction(
    frames: Sequence[TraceFrame], trace: Trace, target_bps: float, seconds: float, thin: bool
) -> float | None:
    """A run that never reacts counts as the rest of it."""

    def calm(begin: float, link_bps: float) -> bool:
        inside = [frame for frame in frames if begin <= frame.at < begin + REACTION_S]
        lowest = not thin and all(frame.rate == 0 for frame in inside)
        return lowest or 1000 * kbps(frames, begin, begin + REACTION_S) <= max(link_bps, target_bps / 8)

    times = []
    for start, bps in zip(trace.starts, trace.bits_per_second, strict=True):
        if 0 < start < seconds - REACTION_S and bps < min(target_bps, trace.at(start - 1e-6)):
            later = np.arange(start, seconds - REACTION_S, 0.1)
            times.append(next((float(t) - start for t in later if calm(t, bps)), seconds - start))
    return max(times, default=None)


def _swing(frames: Sequence[TraceFrame], trace: Trace, seconds: float) -> float | None:
    rates = np.array([frame.rate for frame in frames])
    times = np.array([frame.at for frame in frames])
    swings = []
    for at in times:
        steady = not any(at - SETTLE_S - SWING_S < start < at + SWING_S for start in trace.starts)
        if steady and at + SWING_S / 2 <= seconds:
            around = np.abs(times - at) <= SWING_S / 2
            swings.append(float(abs(rates[times == at][0] - rates[around].mean())))
    return max(swings, default=None)

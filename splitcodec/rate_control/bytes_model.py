"""How many bytes a frame of one camera costs at a rate point: the pack's measured curve, fitted online.

The pack's table gives the shape, ln bytes = c(rate), of an average photo. A camera sees its own scene, so

    ln bytes(rate) = level + gain * (c(rate) - c(middle))

and (level, gain) are tracked by recursive least squares in its Kalman form: a random walk lets the level
follow the scene within a few frames, the gain slowly; a clipped innovation keeps one odd frame from moving
much. The gain stays positive, so bytes always rise with the rate and the curve can be inverted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL_DRIFT: Final = 0.025**2  # variance the level gains per frame: scenes change by some per cent per frame
GAIN_DRIFT: Final = 0.01**2
NOISE: Final = 0.04**2  # variance of ln bytes around the curve of a still scene
START: Final = np.array([1.0, 0.3]) ** 2  # variance before the first frame; also the most it ever grows to
CLIP: Final = 3.0  # innovations beyond so many standard deviations count as that many
GAIN_RANGE: Final = (0.4, 2.5)
UNMEASURED_SPAN: Final = 0.8  # ln of bytes at the top over bytes at rate 0, for a pack that measured nothing
UNMEASURED_BYTES: Final = 4000.0
MAX_SLOPE: Final = 3.0  # ln bytes per rate step beyond what was measured: close rows prove little
MIN_SLOPE: Final = 0.01  # ln bytes per rate step, so that a measured curve can always be inverted


class RatePoints:
    """The pack's curve: ln bytes at increasing rates, strictly rising, over the whole range 0..max_rate."""

    def __init__(self, max_rate: float, measured: Iterable[tuple[float, float]] = ()) -> None:
        """measured: (rate, mean bytes per frame) in any order; fewer than two usable rows: a typical curve.

        max_rate: K - 1; a pack with one rate point has nothing to choose, and max_rate 0.
        """
        kept = ((round(rate, 3), size) for rate, size in measured)
        rows = sorted((rate, math.log(size)) for rate, size in kept if 0 <= rate <= max_rate and size > 0)
        if len({rate for rate, _ in rows}) < 2:
            middle = rows[0][1] if rows else math.log(UNMEASURED_BYTES)
            rows = [(0.0, middle - UNMEASURED_SPAN / 2), (max(max_rate, 1.0), middle + UNMEASURED_SPAN / 2)]
        rates, logs = _strictly_rising(rows)
        slope = min((logs[-1] - logs[0]) / (rates[-1] - rates[0]), MAX_SLOPE)
        if rates[0] > 0:
            rates, logs = [0.0, *rates], [logs[0] - slope * rates[0], *logs]
        if rates[-1] < max_rate:
            rates, logs = [*rates, max_rate], [*logs, logs[-1] + slope * (max_rate - rates[-1])]
        self.max_rate = max_rate
        self._rates = np.array(rates)
        self._logs = np.array(logs)
        self.middle = self.log_bytes(max_rate / 2)

    def log_bytes(self, rate: float) -> float:
        """ln of the bytes of an average frame at `rate`."""
        return float(np.interp(rate, self._rates, self._logs))

    def rate_at(self, log_bytes: float) -> float:
        """The rate of that many ln bytes, held within 0..max_rate."""
        rate = float(np.interp(log_bytes, self._logs, self._rates))
        return min(max(rate, 0.0), self.max_rate)


class BytesModel:
    """The curve of one camera and task."""

    def __init__(self, points: RatePoints) -> None:
        self._points = points
        self._state: NDArray[np.float64] = np.array([points.middle, 1.0])  # level, gain
        self._covariance: NDArray[np.float64] = np.diag(START)

    def num_bytes(self, rate: float) -> float:
        """Bytes that a frame at `rate` is expected to cost."""
        return math.exp(float(self._regressor(rate) @ self._state))

    def rate_for(self, num_bytes: float) -> float:
        """The highest rate expected to cost at most num_bytes; 0 if none does, max_rate if all do."""
        if num_bytes <= 0:
            return 0.0
        level, gain = float(self._state[0]), float(self._state[1])
        return self._points.rate_at((math.log(num_bytes) - level) / gain + self._points.middle)

    def lower_rate(self, rate: float, num_bytes: int, wanted_bytes: float) -> float:
        """The rate at which a frame that cost num_bytes at `rate` would cost wanted_bytes, or fewer."""
        less = math.log(max(wanted_bytes, 1.0) / max(num_bytes, 1)) / float(self._state[1])
        return min(self._points.rate_at(self._points.log_bytes(rate) + less), rate)

    def observe(self, rate: float, num_bytes: int) -> None:
        """Learn from a frame that was coded; num_bytes: at least 1."""
        grown = self._covariance + np.diag([LEVEL_DRIFT, GAIN_DRIFT])
        regressor = self._regressor(rate)
        spread = float(regressor @ grown @ regressor) + NOISE
        innovation = math.log(max(num_bytes, 1)) - float(regressor @ self._state)
        limit = CLIP * math.sqrt(spread)
        weights = grown @ regressor / spread
        self._state = self._state + weights * min(max(innovation, -limit), limit)
        self._state[1] = min(max(self._state[1], GAIN_RANGE[0]), GAIN_RANGE[1])
        self._covariance = _bounded(grown - np.outer(weights, weights) * spread)

    def _regressor(self, rate: float) -> NDArray[np.float64]:
        return np.array([1.0, self._points.log_bytes(rate) - self._points.middle])


def _strictly_rising(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """One value per rate (the last), each at least MIN_SLOPE per rate step above the one before."""
    rates: list[float] = []
    logs: list[float] = []
    for rate, value in dict(rows).items():
        floor = logs[-1] + MIN_SLOPE * (rate - rates[-1]) if logs else value
        rates.append(rate)
        logs.append(max(value, floor))
    return rates, logs


def _bounded(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric, and no variance above START: without new rates the gain's would grow for ever."""
    shrink = np.sqrt(np.minimum(1.0, START / np.diag(covariance)))
    scaled: NDArray[np.float64] = covariance * np.outer(shrink, shrink)
    return (scaled + scaled.T) / 2

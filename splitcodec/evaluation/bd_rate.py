"""Bytes at equal accuracy: the Bjontegaard delta rate between two curves, and where curves do not meet."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INTERPOLATOR = "pchip"  # of log10(bytes) over accuracy; monotone, so it cannot overshoot noisy points
PACKAGE = "bjontegaard"
FAIR_OVERLAP = 0.5  # below this share of the joint accuracy range a BD-rate says little
MIN_POINTS = 2


@dataclass(frozen=True)
class CurvePoint:
    """One operating point: bytes per frame and accuracy."""

    num_bytes: float
    accuracy: float


@dataclass(frozen=True)
class BdRate:
    """Bytes of a codec against an anchor at equal accuracy, averaged over the accuracies both reach.

    percent: negative where the codec needs fewer bytes; None where the curves cannot be compared.
    overlap: share of the joint accuracy range that both reach; low, high: that range, None if there is none.
    codec_points, anchor_points: points used, after those that cost more for no more accuracy were left out.
    note: what a reader must know before quoting percent; empty if nothing.
    """

    anchor: str
    percent: float | None
    interpolator: str
    overlap: float
    low: float | None
    high: float | None
    codec_points: int
    anchor_points: int
    note: str


def rising_points(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """By bytes, only those more accurate than all cheaper ones: what a user would choose from."""
    chosen: list[CurvePoint] = []
    for point in sorted(points, key=lambda p: (p.num_bytes, -p.accuracy)):
        if not chosen or point.accuracy > chosen[-1].accuracy:
            chosen.append(point)
    return chosen


def bd_rate(codec: Sequence[CurvePoint], anchor: Sequence[CurvePoint], anchor_name: str) -> BdRate:
    """Compare two rate-accuracy curves; points may come in any order and number."""
    test, base = rising_points(codec), rising_points(anchor)
    if min(len(test), len(base)) < MIN_POINTS:
        note = f"a curve has fewer than {MIN_POINTS} points that gain accuracy with bytes"
        return BdRate(anchor_name, None, INTERPOLATOR, 0.0, None, None, len(test), len(base), note)
    low = max(test[0].accuracy, base[0].accuracy)
    high = min(test[-1].accuracy, base[-1].accuracy)
    union = max(test[-1].accuracy, base[-1].accuracy) - min(test[0].accuracy, base[0].accuracy)
    overlap = max(0.0, high - low) / union
    if overlap == 0.0:
        note = "no common accuracy: " + _why_apart(test, base)
        return BdRate(anchor_name, None, INTERPOLATOR, 0.0, None, None, len(test), len(base), note)
    percent = _package_bd_rate(test, base)
    note = "" if overlap >= FAIR_OVERLAP else f"curves share only {overlap:.0%} of the accuracy range"
    return BdRate(anchor_name, percent, INTERPOLATOR, overlap, low, high, len(test), len(base), note)


def bytes_at(points: Sequence[CurvePoint], accuracy: float) -> float | None:
    """Bytes a curve needs for an accuracy, by the same interpolator; None outside what was measured."""
    from scipy.interpolate import PchipInterpolator

    curve = rising_points(points)
    if len(curve) < MIN_POINTS or not curve[0].accuracy <= accuracy <= curve[-1].accuracy:
        return None
    accuracies = np.array([point.accuracy for point in curve])
    log_bytes = np.log10([point.num_bytes for point in curve])
    return float(10 ** PchipInterpolator(accuracies, log_bytes)(accuracy))


def _package_bd_rate(test: Sequence[CurvePoint], base: Sequence[CurvePoint]) -> float:
    """The bjontegaard package's figure in percent."""
    from bjontegaard import bd_rate as package_bd_rate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of little overlap, which the result states itself
        return float(
            package_bd_rate(
                [point.num_bytes for point in base],
                [point.accuracy for point in base],
                [point.num_bytes for point in test],
                [point.accuracy for point in test],
                method=INTERPOLATOR,
                require_matching_points=False,
                min_overlap=0,
            )
        )


def _why_apart(test: Sequence[CurvePoint], base: Sequence[CurvePoint]) -> str:
    """Which curve lies above the other, with the two accuracies that do not meet."""
    if test[0].accuracy >= base[-1].accuracy:
        return f"the codec's lowest {test[0].accuracy:.4f} is above the anchor's best {base[-1].accuracy:.4f}"
    return f"the codec's best {test[-1].accuracy:.4f} is below the anchor's lowest {base[0].accuracy:.4f}"

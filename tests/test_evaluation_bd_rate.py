"""BD-rate against known shifts, and curves that do not meet."""

import math

import pytest

from splitcodec.evaluation.bd_rate import CurvePoint, bd_rate, bytes_at, rising_points

ANCHOR = [CurvePoint(1000 * 2**k, 0.20 + 0.03 * k) for k in range(5)]


def scaled(factor: float) -> list[CurvePoint]:
    """ANCHOR with every size multiplied."""
    return [CurvePoint(point.num_bytes * factor, point.accuracy) for point in ANCHOR]


@pytest.mark.parametrize(("factor", "percent"), [(0.8, -20.0), (0.5, -50.0), (1.0, 0.0), (1.5, 50.0)])
def test_a_curve_shifted_in_bytes_gives_the_shift(factor: float, percent: float) -> None:
    delta = bd_rate(scaled(factor), ANCHOR, "jpeg")
    assert delta.percent == pytest.approx(percent, abs=1e-9)
    assert (delta.overlap, delta.note, delta.interpolator) == (1.0, "", "pchip")


def test_only_the_common_accuracy_counts() -> None:
    longer = [*ANCHOR, CurvePoint(10**9, 0.9)]
    assert bd_rate(scaled(0.8), longer, "jpeg").high == 0.32
    # 0.8 of the bytes below 0.26, equal bytes above; on this straight curve pchip is exact between the parts
    upper = [CurvePoint(point.num_bytes * 0.8, point.accuracy) for point in ANCHOR[2:]]
    assert bd_rate(upper, ANCHOR, "jpeg").percent == pytest.approx(-20.0, abs=1e-9)
    assert bd_rate(upper, ANCHOR, "jpeg").low == 0.26


def test_curves_without_common_accuracy_have_no_figure() -> None:
    above = [CurvePoint(500, 0.40), CurvePoint(900, 0.41)]
    delta = bd_rate(above, ANCHOR, "webp")
    assert (delta.percent, delta.overlap, delta.low) == (None, 0.0, None)
    assert "0.4000 is above the anchor's best 0.3200" in delta.note
    assert "below the anchor's lowest" in bd_rate(ANCHOR, above, "webp").note


def test_touching_curves_have_no_figure() -> None:
    touching = [CurvePoint(500, 0.32), CurvePoint(900, 0.41)]
    assert bd_rate(touching, ANCHOR, "webp").percent is None


def test_little_overlap_is_said() -> None:
    short = [CurvePoint(3000, 0.28), CurvePoint(9000, 0.33)]
    delta = bd_rate(short, ANCHOR, "avif")
    assert delta.percent is not None
    assert delta.overlap == pytest.approx(0.04 / 0.13)
    assert delta.note == "curves share only 31% of the accuracy range"


def test_points_that_cost_more_for_no_more_are_left_out() -> None:
    noisy = [*scaled(0.8), CurvePoint(6000, 0.21), CurvePoint(20000, 0.32)]
    delta = bd_rate(noisy, ANCHOR, "hevc")
    assert delta.percent == pytest.approx(-20.0, abs=1e-9)
    assert delta.codec_points == 5


def test_of_two_points_with_equal_bytes_the_better_one_stays() -> None:
    assert rising_points([CurvePoint(10, 0.1), CurvePoint(10, 0.2)]) == [CurvePoint(10, 0.2)]


def test_one_point_is_not_a_curve() -> None:
    assert bd_rate(ANCHOR[:1], ANCHOR, "jpeg").percent is None
    assert bd_rate([], ANCHOR, "jpeg").percent is None


def test_bytes_at_an_accuracy_between_points() -> None:
    assert bytes_at(ANCHOR, 0.26) == pytest.approx(4000)
    assert bytes_at(ANCHOR, 0.275) == pytest.approx(4000 * math.sqrt(2))
    assert bytes_at(ANCHOR, 0.199) is None
    assert bytes_at(ANCHOR, 0.321) is None

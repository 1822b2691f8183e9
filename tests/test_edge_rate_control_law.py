"""The rate control law: bytes are learned, the target holds, a falling link is noticed, a steady one kept."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splitcodec.bench.rate_figures import figures, kbps
from splitcodec.bench.rate_run import SimulatedLink, TraceFrame
from splitcodec.bench.trace import Trace
from splitcodec.rate_control import BytesModel, Goal, LinkMeter, RateController, RatePoints

POINTS = RatePoints(3.0, [(0, 2700), (1, 3500), (2, 4300), (3, 5200)])
SPAN = math.log(5200 / 2700)
Scene = Callable[[float], float]
"""Seconds -> how many times the bytes of an average photo."""


def still(_: float) -> float:
    return 1.0


def run(
    trace: Trace,
    target_kbps: float,
    *,
    fps: float = 10.0,
    seconds: float = 40.0,
    scene: Scene = still,
    noise: float = 0.02,
    thin: bool = False,
) -> list[TraceFrame]:
    """The law over made-up frames, whose bytes rise with the rate a little less than the table says."""
    dice = random.Random(1)
    controller = RateController({"detect": POINTS}, 3.0, Goal(target_kbps, 1.0))
    meter = LinkMeter()
    link, frames = SimulatedLink(trace, meter), []
    for index in range(round(seconds * fps)):
        now = index / fps
        link.advance(now)
        choice = controller.choose("detect", meter, 0, now)
        num_bytes = round(2700 * math.exp(0.9 * SPAN * choice.rate / 3 + dice.gauss(0, noise)) * scene(now))
        if thin and not choice.fits:
            frames.append(TraceFrame(now, choice.rate, 0, False, 0.0))
            continue
        controller.coded("detect", choice.rate, num_bytes, now)
        frames.append(TraceFrame(now, choice.rate, num_bytes, choice.fits, link.send(num_bytes, now)))
    return frames


def constant(target_kbps: float) -> Trace:
    return Trace("constant", (0.0,), (1000 * target_kbps,))


FALL = Trace("fall", (0.0, 15.0), (2e6, 2e5))
rows = st.lists(st.tuples(st.floats(0, 3), st.floats(1, 1e6)), max_size=8)


@given(rows, st.floats(1, 1e7))
@example([(0.001, 1.0), (0.002, 1e6)], 100.0)  # so steep that e to its end would be no number
def test_any_table_gives_a_curve_that_rises_and_inverts(measured: list[tuple[float, float]], size: float):
    model = BytesModel(RatePoints(3.0, measured))
    sizes = [model.num_bytes(step / 10) for step in range(31)]
    assert all(low < high for low, high in pairwise(sizes))
    rate = model.rate_for(size)
    assert 0 <= rate <= 3
    if 0 < rate < 3:
        assert model.num_bytes(rate) == pytest.approx(size, rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10**7)), max_size=200))
def test_no_history_breaks_the_order_of_rates(history: list[tuple[float, int]]):
    model = BytesModel(POINTS)
    for rate, size in history:
        model.observe(rate, size)
    assert 0 < model.num_bytes(0.0) < model.num_bytes(1.5) < model.num_bytes(3.0) < math.inf


def test_the_curve_of_a_camera_is_learned_from_its_frames():
    model, dice = BytesModel(POINTS), random.Random(1)
    for index in range(200):
        rate = 1.5 + math.sin(index / 7)
        model.observe(rate, round(8000 * math.exp(0.5 * SPAN * rate / 3 + dice.gauss(0, 0.02))))
    for rate in (0.5, 1.5, 2.5):
        assert model.num_bytes(rate) == pytest.approx(8000 * math.exp(0.5 * SPAN * rate / 3), rel=0.05)


def test_one_odd_frame_does_not_move_the_curve_much():
    model = BytesModel(POINTS)
    for _ in range(30):
        model.observe(1.5, 4000)
    model.observe(1.5, 400_000)
    assert model.num_bytes(1.5) < 1.25 * 4000


def test_a_pack_with_one_rate_point_has_nothing_to_choose():
    controller = RateController({}, 0.0, Goal(100, 1.0))
    assert controller.choose("detect", LinkMeter(), 0, 0.0).rate == 0


@settings(max_examples=25, deadline=None)
@given(
    fps=st.floats(2, 30),
    level=st.floats(0.1, 0.9),
    sway=st.floats(0, 0.15),
    period=st.floats(5, 60),
)
def test_the_target_holds_within_a_tenth_over_ten_seconds(
    fps: float, level: float, sway: float, period: float
):
    target = 8 * fps * 2.7 * math.exp(0.9 * SPAN * (0.25 + 0.5 * level))
    frames = run(
        constant(1e6), target, fps=fps, scene=lambda now: 1 + sway * math.sin(2 * math.pi * now / period)
    )
    error = figures(frames, constant(1e6), 1000 * target, fps, False).hold_error
    assert error is not None
    assert error < 0.1


@pytest.mark.parametrize("fps", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("limit", ["target", "link"])
def test_the_rate_swings_less_than_one_point_around_a_steady_link(fps: float, limit: str):
    middle = 8 * fps * 2.7 * math.exp(0.9 * SPAN / 2)
    trace = constant(middle if limit == "link" else 1e5)
    frames = run(trace, 2 * middle if limit == "link" else middle, fps=fps, seconds=60)
    settled = [frame.rate for frame in frames if frame.at > 10]
    assert max(settled) - min(settled) <= 1.0


@pytest.mark.parametrize(("fps", "thin"), [(5.0, False), (10.0, True), (25.0, True)])
def test_a_link_that_falls_is_met_within_two_seconds(fps: float, thin: bool):
    frames = run(FALL, 8 * fps * 3.7, fps=fps, thin=thin)
    found = figures(frames, FALL, 8 * fps * 3700, fps, thin)
    assert (found.reaction_s or 0.0) <= 2.0
    late = [frame.delay_s for frame in frames if frame.at > 22]
    assert max(late) < 1.0, "the queue that the fall made must be gone"
    assert 150 < kbps(frames, 22, 40) < 205 or fps < 10


def test_a_link_that_comes_back_is_used_again():
    trace = Trace("back", (0.0, 10.0, 20.0), (2e6, 2e5, 2e6))
    frames = run(trace, 300, thin=True)
    assert kbps(frames, 35, 40) == pytest.approx(300, rel=0.1)


def test_nothing_is_left_out_while_the_target_fits():
    assert all(frame.fits for frame in run(constant(1e6), 300))


def test_frames_are_left_out_evenly_when_even_the_lowest_rate_is_too_much():
    frames = run(constant(1e6), 108, thin=True)  # half of what rate 0 takes
    assert kbps(frames, 10, 40) == pytest.approx(108, rel=0.1)
    kept = [frame.at for frame in frames if frame.at > 10 and frame.num_bytes]
    assert max(b - a for a, b in pairwise(kept)) < 0.5


def test_a_silent_link_still_gets_a_few_frames():
    frames = run(Trace("cut", (0.0, 10.0), (2e6, 0.0)), 300, thin=True)
    assert 20 < kbps(frames, 15, 40) < 60


def test_an_old_backlog_takes_at_most_half_of_the_link_from_live_frames():
    meter, controller = LinkMeter(), RateController({"detect": POINTS}, 3.0, Goal(1000, 1.0))
    link = SimulatedLink(constant(400), meter)
    for index in range(100):
        link.advance(index / 20)
        link.send(4000, index / 20)
    now = 5.0
    capacity = meter.capacity(now) or 0.0
    assert capacity == pytest.approx(400_000, rel=0.1)
    allowed = controller.choose("detect", meter, 10**9, now).allowed_bps
    assert 0.4 * capacity < allowed < 0.5 * capacity


@given(st.lists(st.tuples(st.integers(1, 10**5), st.floats(0, 10)), max_size=60))
def test_the_meter_forgets_what_was_delivered_or_lost(events: list[tuple[int, float]]):
    meter, now, under_way = LinkMeter(), 0.0, []
    for size, step in events:
        now += step
        under_way.append(meter.sent(size, now))
        if size % 3 == 0:
            meter.delivered(under_way.pop(0), now)
        elif size % 3 == 1:
            meter.lost(under_way.pop())
        assert meter.bytes_under_way == sum(frame.num_bytes for frame in under_way)
        assert (meter.capacity(now) or 1.0) > 0

"""`splitcodec bench rate-control`: the trace, the link it makes, the figures, the shipped pack under it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from splitcodec.bench.rate_figures import figures
from splitcodec.bench.rate_plot import draw_rates
from splitcodec.bench.rate_run import TraceFrame
from splitcodec.bench.sequence import panned
from splitcodec.bench.trace import Trace, read_trace
from splitcodec.cli import app
from splitcodec.errors import DatasetError

FALL = Trace("fall", (0.0, 10.0), (2e6, 2e5))


def film(kbps_by_second: list[float], rate: float = 1.0) -> list[TraceFrame]:
    """Ten frames a second that cost so much."""
    return [
        TraceFrame(second + tenth / 10, rate, round(kbps * 1000 / 80), True, 0.1)
        for second, kbps in enumerate(kbps_by_second)
        for tenth in range(10)
    ]


@pytest.mark.parametrize("name", ["fall", "stall", "steady"])
def test_shipped_traces_can_be_named(name: str) -> None:
    assert read_trace(name).at(0.0) == 2e6


@pytest.mark.parametrize(
    "text",
    ["", "seconds,kbps\n", "0,100\n", "seconds,kbps\n1,100\n", "seconds,kbps\n0,1\n0,2\n",
     "seconds,kbps\n0,-1\n", "seconds,kbps\n0,nan\n", "seconds,kbps\n0\n", "seconds,kbps\n0,fast\n"],
)  # fmt: skip
def test_a_malformed_trace_is_refused_with_the_reason(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match="seconds,kbps"):
        read_trace(str(path))


def test_a_missing_trace_names_the_shipped_ones() -> None:
    with pytest.raises(DatasetError, match="fall, stall, steady"):
        read_trace("nowhere")


def test_a_frame_takes_the_time_its_bits_need_across_a_change() -> None:
    assert FALL.finish(0.0, 2e6) == 1.0
    assert FALL.finish(9.5, 1e6 + 1e5) == 10.5
    assert Trace("cut", (0.0, 1.0), (1000.0, 0.0)).finish(0.5, 1000) == float("inf")
    assert Trace("gap", (0.0, 1.0, 5.0), (1000.0, 0.0, 1000.0)).finish(0.5, 1000) == 5.5


@given(st.floats(0, 20), st.floats(1, 1e7), st.floats(1, 1e7))
def test_two_frames_in_a_row_take_as_long_as_one_of_both(begin: float, first: float, second: float) -> None:
    both = FALL.finish(begin, first + second)
    assert FALL.finish(FALL.finish(begin, first), second) == pytest.approx(both, rel=1e-9)


def test_the_sequence_moves_cuts_and_repeats() -> None:
    photos = [np.full((40, 60, 3), value, np.uint8) for value in (10, 200)]
    frames = list(panned(photos, seconds=20, fps=2))
    assert len(frames) == 40
    assert {frame.shape for frame in frames} == {(30, 45, 3)}
    assert [int(frame[0, 0, 0]) for frame in frames[::20]] == [10, 10]
    assert int(frames[-1][0, 0, 0]) == 200


def test_figures_see_a_target_that_was_missed() -> None:
    steady = Trace("steady", (0.0,), (2e6,))
    assert figures(film([100.0] * 30), steady, 1e5, 10, True).hold_error == pytest.approx(0, abs=0.01)
    assert figures(film([100.0] * 20 + [50.0] * 10), steady, 1e5, 10, True).hold_error == pytest.approx(
        0.5, abs=0.01
    )


def test_figures_see_when_a_fall_was_met() -> None:
    met = figures(film([1000.0] * 13 + [150.0] * 7), FALL, 1e6, 10, True)
    assert met.reaction_s == pytest.approx(3.0, abs=0.11)
    never = figures(film([1000.0] * 20), FALL, 1e6, 10, True)
    assert never.reaction_s == pytest.approx(10.0)
    lowest = figures(film([1000.0] * 20, rate=0.0), FALL, 1e6, 10, False)
    assert lowest.reaction_s == 0.0


def test_figures_see_a_swing() -> None:
    steady = Trace("steady", (0.0,), (2e6,))
    frames = [TraceFrame(i / 10, 1.5 + 0.7 * (-1) ** i, 1000, True, 0.1) for i in range(200)]
    assert figures(frames, steady, 8e4, 10, True).swing == pytest.approx(0.7, abs=0.05)


def test_a_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "rate.png"
    frames = [*film([1000.0] * 13 + [150.0] * 6), TraceFrame(19.5, 0.0, 0, False, 0.0)]
    draw_rates(frames, FALL, 1000.0, path)
    with Image.open(path) as picture:
        assert picture.size == (1200, 1050)


def test_the_published_figures_are_those_of_the_run() -> None:
    root = Path(__file__).resolve().parent.parent / "docs"
    found = json.loads((root / "results" / "rate-control.json").read_text())["figures"]
    said = " ".join((root / "delivery.md").read_text().split())
    assert f"held within {found['hold_error']:.0%} over any 10 s" in said
    assert f"met within {found['reaction_s']:.1f} s" in said
    assert f"keeps within {found['swing']:.1f} points" in said


@pytest.mark.slow
def test_the_shipped_pack_holds_reacts_and_keeps_still(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the photos come with scikit-image")
    out = tmp_path / "rate.json"
    command = [
        "bench",
        "rate-control",
        "--trace",
        "fall",
        "--seconds",
        "32",
        "--fps",
        "5",
        "--json",
        str(out),
    ]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "target missed by at most" in done.output
    report = json.loads(out.read_text())
    assert len(report["frames"]) == 160
    assert report["figures"]["hold_error"] <= 0.1
    assert report["figures"]["swing"] <= 1.0


@pytest.mark.slow
def test_the_shipped_pack_meets_a_fall_of_the_link_within_two_seconds(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the photos come with scikit-image")
    trace, out = tmp_path / "early.csv", tmp_path / "rate.json"
    trace.write_text("seconds,kbps\n0,2000\n5,120\n")
    command = [
        "bench",
        "rate-control",
        "--trace",
        str(trace),
        "--seconds",
        "12",
        "--fps",
        "10",
        "--json",
        str(out),
    ]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found["target_kbps"] > 120
    assert found["figures"]["reaction_s"] <= 2.0

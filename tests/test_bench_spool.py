"""`splitcodec bench spool` measures the edge's own spool and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitcodec.cli import app

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_frames_go_in_and_come_out_in_order_and_the_report_says_how_fast(tmp_path: Path) -> None:
    report = tmp_path / "out" / "spool.json"
    flags = ["--folder", str(tmp_path), "--frames", "2000", "--frame-bytes", "500", "--json", str(report)]
    done = CliRunner().invoke(app, ["bench", "spool", *flags])
    assert done.exit_code == 0, done.output
    assert "durable frames per second of 500 bytes" in done.output
    figures = json.loads(report.read_text())["figures"]
    assert (figures["frames"], figures["out_of_order"]) == (2000, 0)
    assert figures["disk_bytes"] > 2000 * 500
    assert figures["in_per_second"] > 0
    assert [sample["frames"] for sample in figures["memory"]][:11:10] == [1000, 2000]
    empty, full = figures["starts"]
    assert (empty["frames"], full["frames"]) == (0, 2000)
    assert full["seconds"] > 0
    assert "an edge starts in" in done.output
    assert not list(tmp_path.glob("spool-bench-*"))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "spool", "--folder", str(tmp_path / "nowhere"), "--frames", "1"])
    assert done.exit_code != 0
    assert "nowhere" in str(done.exception)


def test_the_published_figures_are_those_of_the_report() -> None:
    figures = json.loads((ROOT / "docs" / "results" / "spool.json").read_text())["figures"]
    text = (ROOT / "docs" / "delivery.md").read_text()
    said = " ".join(text.partition("<!-- spool:begin -->")[2].partition("<!-- spool:end -->")[0].split())
    assert f"{figures['frames']} frames of {figures['frame_bytes']} bytes" in said
    assert f"{figures['in_per_second']:.0f} durable frames per second in" in said
    assert f"{figures['commit_ms_median']:.1f} ms (p99 {figures['commit_ms_p99']:.1f} ms)" in said
    assert f"{figures['out_per_second']:.0f} per second out" in said
    assert f"up by {figures['growth_bytes'] / 1e6:.1f} MB" in said
    assert figures["in_per_second"] >= 500
    empty, full = figures["starts"]
    assert f"starts within {full['seconds']:.1f} s on all of them, {empty['seconds']:.1f} s on none" in said
    more = (full["resident_bytes"] - empty["resident_bytes"]) / 1e6
    assert f"its memory differs by {more:+.1f} MB then" in said
    assert full["seconds"] < 3
    assert figures["growth_bytes"] < 8e6

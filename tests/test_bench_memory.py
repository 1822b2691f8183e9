"""`splitcodec bench memory`: the line through resident memory, and a short run on the pack that ships."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.reads import CACHE_KIB
from splitcodec.bench.command import app
from splitcodec.bench.memory_command import sample_jpegs, slope_per_1000

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_slope_of_a_leak_is_its_bytes_per_1000_frames() -> None:
    slope, error = slope_per_1000([(n, 200_000_000 + 7 * n) for n in range(5_000, 50_001, 250)]) or (0, 1)
    assert slope == pytest.approx(7_000)
    assert error == pytest.approx(0, abs=1e-3)


def test_noise_around_a_level_is_flat_within_its_error_and_a_leak_under_it_is_not() -> None:
    frames = np.arange(5_000, 50_001, 250)
    noise = 2e8 + np.random.default_rng(0).normal(0, 500_000, frames.size)
    for leak, flat in ((0, True), (50, False)):  # bytes per frame
        sizes = [int(size) for size in noise + leak * frames]
        slope, error = slope_per_1000(list(zip(frames.tolist(), sizes, strict=True))) or (0, 0)
        assert (abs(slope) < 3 * error) == flat
        assert abs(slope - 1000 * leak) < 3 * error


def test_the_error_is_that_of_the_textbook() -> None:
    samples = [(0, 10), (1000, 11), (2000, 15)]  # slope 2.5; residuals 0.5, -1, 0.5
    assert slope_per_1000(samples) == pytest.approx((2.5, (1.5 / 2) ** 0.5))
    assert slope_per_1000(samples[:2]) is None


def test_the_packaged_photos_are_posted_as_jpeg() -> None:
    photos = sample_jpegs()
    assert photos
    assert {(photo.content_type, photo.data[:3]) for photo in photos} == {("image/jpeg", b"\xff\xd8\xff")}


@pytest.mark.slow
@pytest.mark.usefixtures("default_pack")
def test_bench_memory_posts_frames_of_the_task_and_samples_both_services(tmp_path: Path) -> None:
    out = tmp_path / "out" / "memory.json"
    words = ["memory", "--task", "classify", "--frames", "40", "--settled-from", "10", "--json", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["command"] == "splitcodec bench memory --task classify --frames 40 --settled-from 10"
    assert (report["task"], report["photos"]) == ("classify", len(sample_jpegs()))
    assert [sample["frames"] for sample in report["samples"]] == list(range(1, 41))
    for side in ("edge", "cloud"):
        sizes = [sample[f"{side}_bytes"] for sample in report["samples"]][9:]
        trend = report[side]
        if None in sizes:  # no /proc here
            assert trend["slope"] is trend["lowest"] is None
            continue
        assert (trend["lowest"], trend["highest"]) == (min(sizes), max(sizes))
        assert trend["peak"] >= trend["highest"] > 10**7
        assert trend["slope_error"] >= 0
        assert f"{side}: {trend['slope'] / 1000:+.2f} kB per 1,000 frames" in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("default_pack")
def test_a_run_that_is_too_short_has_no_line_and_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["memory", "--frames", "2", "--json", str(tmp_path / "m.json")])
    assert result.exit_code == 0, result.output
    assert result.output.count("unknown; post more frames than --settled-from") == 2
    assert json.loads((tmp_path / "m.json").read_text())["edge"]["slope"] is None


def test_the_published_run_grows_by_no_more_than_is_said_and_than_sqlites_caches() -> None:
    report = json.loads((DOCS / "results" / "memory.json").read_text())
    edge, cloud = report["edge"], report["cloud"]
    assert (report["frames"], report["settled_from"]) == (50_000, 5_000)
    said = " ".join((DOCS / "operations.md").read_text().split())
    settled = [one for one in report["samples"] if one["frames"] >= report["settled_from"]]
    for name, service, where in (("edge_bytes", edge, "on the edge"), ("cloud_bytes", cloud, "in the cloud")):
        half = len(settled) // 2
        first, second = (mean(one[name] for one in part) for part in (settled[:half], settled[half:]))
        assert f"{(second - first) / 1e6:.2f} MB more {where}" in said
        assert second - first < 6 * CACHE_KIB * 1024  # connections
        assert service["highest"] - service["lowest"] < 6 * CACHE_KIB * 1024

"""`splitcodec bench hold` codes the same frames by themselves and in a chain, and says what each costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_pack import holding, write_tiny_pack
from typer.testing import CliRunner

from splitcodec.bench.hold_command import NOISE, PATCH, scene
from splitcodec.cli import app
from splitcodec.errors import SettingsError
from splitcodec.packs import load_pack
from splitcodec.packs.write import write_pack

ROOT = Path(__file__).resolve().parent.parent


def test_a_chain_is_timed_beside_single_frames_and_holds_what_stands_still(tmp_path: Path) -> None:
    pack, report = tmp_path / "pack", tmp_path / "out" / "hold.json"
    write_pack(pack, holding())
    flags = ["--pack", str(pack), "--frames", "6", "--rate", "0", "--json", str(report)]
    done = CliRunner().invoke(app, ["bench", "hold", *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(report.read_text())
    assert (found["frames"], found["task"], found["rate"]) == (6, "detect", 0)
    assert found["codec_digest"] == load_pack(pack).codec_digest
    assert found["ratio"] == pytest.approx(found["chain_ms"] / found["single_ms"], rel=0.01)
    assert 0 < found["held"] <= 1
    assert found["chain_bytes"] < found["single_bytes"]
    assert f"takes {found['ratio']:.2f} times as long" in done.output


def test_a_pack_that_cannot_hold_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "pack")
    with pytest.raises(SettingsError, match="cannot hold cells; export it again with this version"):
        CliRunner().invoke(
            app,
            ["bench", "hold", "--pack", str(tmp_path / "pack")],
            catch_exceptions=False,
            standalone_mode=False,
        )


def test_the_scene_stands_still_but_for_noise_and_the_patch_and_is_the_same_every_time() -> None:
    first, second = (picture.astype(int) for picture in scene(2))
    moved = np.abs(second - first).max(axis=2) > 2 * NOISE
    rows, columns = np.nonzero(moved)
    assert np.ptp(rows) < PATCH
    assert np.ptp(columns) < 2 * PATCH
    assert np.array_equal(first, next(scene(1)))
    assert not np.array_equal(first, second)


def test_the_published_cost_of_holding_is_that_of_the_report() -> None:
    found = json.loads((ROOT / "docs" / "results" / "hold.json").read_text())
    said = " ".join((ROOT / "docs" / "delivery.md").read_text().split())
    times, share = re.findall(r"takes ([\d.]+) times as long .*?holds (\d+)% of", said)[0]
    assert times == f"{found['ratio']:.2f}"
    assert share == f"{found['held']:.0%}"[:-1]
    assert found["codec_digest"] == load_pack("default").codec_digest

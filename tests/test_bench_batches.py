"""Batches with a prompt per frame: the stacked graph gives each frame what it gets alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tiny_pack
from typer.testing import CliRunner

from splitcodec.bench.batch_command import SIZES
from splitcodec.bench.command import app
from splitcodec.bench.stacked import stacked_decoder, stacked_inputs
from splitcodec.packs import Pack
from splitcodec.runtime import open_session


def test_stacked_prompts_give_each_frame_its_own_feature(tmp_path: Path) -> None:
    pack = tiny_pack.write_three_tasks(tmp_path / "tiny")
    prompts = [pack.prompt(task) for task in pack.tasks]
    dice = np.random.default_rng(1)
    frames = {
        "symbols": dice.integers(-4, 5, (3, tiny_pack.CY, 4, 6)).astype("f4"),
        "z_symbols": dice.integers(-4, 5, (3, tiny_pack.CZ, 1, 2)).astype("f4"),
        "gain_z_inv": np.ones((3, tiny_pack.CZ, 1, 1), "f4"),
        "gain_y_inv": np.ones((3, tiny_pack.CY, 1, 1), "f4"),
    }
    stacked = open_session(stacked_decoder(pack, 3), name="stacked")
    together = stacked.run({**frames, **stacked_inputs(pack, prompts)})["feature"]
    for row, prompt in enumerate(prompts):
        own = {name: array[row : row + 1] for name, array in frames.items()}
        alone = _decoder(pack).run({**own, **prompt.graph_inputs("decoder")})["feature"]
        np.testing.assert_allclose(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_the_report_has_every_kind_and_size(tmp_path: Path) -> None:
    tiny_pack.write_three_tasks(tmp_path / "tiny")
    words = ["batches", "--pack", str(tmp_path / "tiny"), "--repeats", "2"]
    result = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    expected = [("alone", 1)]
    for size in SIZES:
        expected += [("one prompt", size), ("a prompt per frame", size)]
    assert [(row["kind"], row["frames"]) for row in rows] == expected
    assert all(row["differs"] < 1e-4 and row["wall_ms"] > 0 for row in rows)


def _decoder(pack: Pack):  # type: ignore[no-untyped-def]
    return open_session(pack.graph_bytes("decoder"), name="decoder")

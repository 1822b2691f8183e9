"""The worked example of docs/training.md, at a tiny size: train, teach a prompt, export, infer."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from training_rig import EXPORT_EXAMPLE, THIRD_PARTY, TINY, WholeRun, command, whole_run

from splitcodec.export import build
from splitcodec.models.sizes import SIZES
from splitcodec.training import recipes, setting

__all__ = ["whole_run"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]
EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "own_teacher.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_teacher", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_colours_tell_the_class() -> None:
    pictures = torch.zeros(3, 3, 4, 4)
    pictures[0, 0], pictures[1, 2], pictures[2] = 0.5, 0.5, 0.4
    own = example()
    assert [own.LABELS[k] for k in own.kind_of(pictures).tolist()] == ["warm", "cold", "grey"]


def test_example_runs_from_photos_to_an_answer(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = example()
    weights = tmp_path / "own.safetensors"
    assert own.train(whole_run.photos, weights, steps=40) > 0.34, "better than chance among three"
    monkeypatch.setitem(SIZES, "nano", TINY)
    monkeypatch.setattr(recipes, "OWN_TEACHER", replace(recipes.OWN_TEACHER, steps=3, crop=64, batch=4))
    monkeypatch.setattr(setting, "STATISTICS_BATCHES", 2)
    monkeypatch.setattr(build, "EXAMPLE", EXPORT_EXAMPLE)
    whole_run.share_graphs(monkeypatch)
    teacher = ("--teacher", f"{EXAMPLE}:teacher", "--split", "body", "--weights", weights)
    words = ("--task", "colour", "--data", whole_run.photos, "--codec", whole_run.codec_file)
    command("train", "prompt", *teacher, *words, "--out", tmp_path / "colour", "--no-compile")
    (tmp_path / "labels.txt").write_text("\n".join(own.LABELS))
    row = {"task": "colour", "teacher": f"{EXAMPLE}:teacher", "split": "body", "weights": str(weights)}
    row |= {"labels": str(tmp_path / "labels.txt"), "run": str(tmp_path / "colour" / "final.safetensors")}
    size = {"height": 64, "width": 64, "fit": "stretch", "fill": 0}
    (tmp_path / "own.json").write_text(json.dumps([{**row, "input": size}]))
    where = ("--codec", whole_run.codec_file, "--out", tmp_path / "pack")
    command("export", *where, "--tasks", tmp_path / "own.json", "--name", "colour")
    answer = own.infer(str(tmp_path / "pack"), whole_run.photos / "photo0.png")
    label, score, *rest = answer.split()
    assert label in own.LABELS
    assert 1 / 3 <= float(score) <= 1.0
    assert rest[0] == "from"
    assert 0 < int(rest[1]) < 5000

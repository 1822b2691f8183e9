"""A whole run through the command line: stage 1, stage 2, export, and a pack that codes a picture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_rig import (
    LABELS,
    THIRD_PARTY,
    TINY,
    WholeRun,
    command,
    smooth_photo,
    state_digest,
    tiny_parts,
    use_tiny_sizes,
    whole_run,
)

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.errors import TrainingError
from splitcodec.models.sizes import SIZES
from splitcodec.packs import load_pack
from splitcodec.training import recipes
from splitcodec.training.prompt_run import student_of, train_prompt
from splitcodec.training.recipes import STAGE2
from splitcodec.training.setting import TrainingInputs

__all__ = ["whole_run"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]


def test_run_leaves_log_summary_and_weights(whole_run: WholeRun) -> None:
    terms = {
        "codec": {"bpp", "feature", "mse", "deep", "obj", "cls", "box"},
        "detect": {"bpp", "feature", "deep", "obj", "cls", "box"},
    }
    for stage, names in terms.items():
        folder = whole_run.folder / stage
        first = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
        assert first["step"] == 0
        assert set(first) == {"step", "progress", *names}
        assert all(len(first[name]) == 4 and np.isfinite(first[name]).all() for name in names)
        summary = json.loads((folder / "run.json").read_text())
        assert (summary["steps"], summary["batch"]) == (3, 4)
        assert summary["seconds"] > 0
        assert (folder / "final.safetensors").is_file()


def test_stage_2_leaves_the_codec_alone_and_changes_the_rest(whole_run: WholeRun) -> None:
    assert state_digest(whole_run.parts.codec) == whole_run.codec_before
    before, after = load_file(str(whole_run.codec_file)), load_file(str(whole_run.task_file))
    assert not any(name.startswith("codec/") for name in after)
    for name in ("gains/log_gain_y", "adapter/out.weight", "prompt/branches.g_a.conv3.weight"):
        assert name in after
        assert name not in before or not after[name].equal(before[name]), name
    # An untrained codec's z is all zeros, so of the prompts on h_s only biases can move in a short run.
    moving = [name for name in after if re.match(r"prompt/branches\.(g_a|h_a|g_s)\.", name)]
    assert len(moving) == 24
    assert [name for name in moving if not after[name].any()] == []


def test_pack_of_the_run_codes_a_picture(whole_run: WholeRun) -> None:
    pack = load_pack(whole_run.pack)
    prompt = pack.prompt("detect")
    encoder, decoder = FeatureEncoder(pack, engine="ort-cpu"), FeatureDecoder(pack, engine="ort-cpu")
    canvas = smooth_photo(96, 160, 11)
    sizes = []
    for rate in (0.0, 1.5, 3.0):
        frame = encoder.compress(canvas, prompt, rate, (96, 160))
        decoded = decoder.decompress(frame.data)
        assert decoded.feature.shape == (1, 8, 12, 20)
        assert np.isfinite(decoded.feature).all()
        sizes.append(frame.num_bytes)
    assert sizes == sorted(set(sizes)), "a larger rate sends more bytes"


def test_pack_says_where_it_comes_from(whole_run: WholeRun) -> None:
    manifest = load_pack(whole_run.pack).manifest
    assert whole_run.output.startswith(f"wrote {whole_run.pack}: pack tiny-owls, codec digest ")
    assert manifest.tasks["detect"].labels == LABELS
    assert [stage.name for stage in manifest.provenance.stages] == ["base2", "detect2"]
    assert [stage.steps for stage in manifest.provenance.stages] == [3, 3]
    assert manifest.provenance.data[0].name == "waves"
    card = (whole_run.pack / "MODEL_CARD.md").read_text()
    for part in (
        "# tiny-owls",
        "| edge in all |",
        "| tail detect |",
        "4 photos from this test",
        "made in a test",
    ):
        assert part in card, part


def test_finished_run_started_again_does_nothing_more(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    for name in ("checkpoint.safetensors", "log.jsonl"):
        (tmp_path / name).write_bytes((whole_run.folder / "codec" / name).read_bytes())
    data = ("--data", whole_run.photos, "--teacher", whole_run.teacher)
    command("train", "codec", *data, "--out", tmp_path, "--no-compile")
    assert (
        load_file(str(tmp_path / "final.safetensors")).keys() == load_file(str(whole_run.codec_file)).keys()
    )
    for name, value in load_file(str(tmp_path / "final.safetensors")).items():
        assert value.equal(load_file(str(whole_run.codec_file))[name]), name
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_folder_of_another_recipes_run_is_refused(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    (tmp_path / "checkpoint.safetensors").write_bytes(
        (whole_run.folder / "codec/checkpoint.safetensors").read_bytes()
    )
    words = ("--recipe", "base2-longer", "--data", whole_run.photos, "--teacher", whole_run.teacher)
    with pytest.raises(TrainingError, match=r"is of recipe base2 .*this run of recipe base2-longer .*--out"):
        command("train", "codec", *words, "--out", tmp_path, "--no-compile", "--resume-anyway")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_missing_teacher_or_codec_is_named_with_the_option(whole_run: WholeRun, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a graph")
    words = ("--data", whole_run.photos, "--out", tmp_path / "run", "--no-compile")
    with pytest.raises(TrainingError, match=r"there is no teacher .*absent\.onnx .*give --teacher"):
        command("train", "codec", *words, "--teacher", tmp_path / "absent.onnx")
    with pytest.raises(TrainingError, match=r"text\.onnx is no ONNX file .*give --teacher"):
        command("train", "codec", *words, "--teacher", tmp_path / "text.onnx")
    teacher = ("--teacher", whole_run.teacher)
    with pytest.raises(TrainingError, match=r"absent\.safetensors is no checkpoint .*give the final\.saf"):
        command("train", "prompt", *words, *teacher, "--codec", tmp_path / "absent.safetensors")
    assert not (tmp_path / "run").exists()


def test_longer_recipe_goes_on_from_an_earlier_run(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    data = ("--data", whole_run.photos, "--teacher", whole_run.teacher, "--start", whole_run.codec_file)
    command("train", "codec", "--recipe", "base2-longer", *data, "--out", tmp_path, "--no-compile")
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert set(log) == {"step", "progress", "bpp", "feature", "mse", "deep", "obj", "cls", "box"}
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 3
    earlier, later = load_file(str(whole_run.codec_file)), load_file(str(tmp_path / "final.safetensors"))
    fresh = tiny_parts(43).codec.state_dict()["g_a.down.weight"]
    moved = (later["codec/g_a.down.weight"] - earlier["codec/g_a.down.weight"]).abs().max()
    assert 0 < moved < (later["codec/g_a.down.weight"] - fresh).abs().max() / 10


def test_further_teacher_gets_an_adapter_of_its_own(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_sizes(monkeypatch)
    data = ("--data", whole_run.photos, "--teacher", whole_run.teacher, "--also", whole_run.teacher)
    command("train", "codec", *data, "--out", tmp_path, "--no-compile")
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert all(value > 0 for value in log["aside"])
    assert load_file(str(tmp_path / "final.safetensors"))["adapter_detect/out.weight"].shape == (64, 8, 1, 1)


def own_teacher() -> nn.Module:
    """A classifier of somebody else's, picture in 0..1."""
    torch.manual_seed(5)
    layers = (nn.Conv2d(3, 6, 8, stride=8), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 4))


@pytest.mark.parametrize("student", ["feature", "pixels"])
def test_prompt_is_trained_for_a_teacher_of_ones_own(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str
) -> None:
    monkeypatch.setitem(SIZES, "nano", TINY)
    monkeypatch.setattr(recipes, "OWN_TEACHER", replace(recipes.OWN_TEACHER, steps=3, crop=64, batch=4))
    words = ("--teacher", f"{__name__}:own_teacher", "--split", "1", "--task", "shapes", "--student", student)
    words += ("--data", whole_run.photos, "--codec", whole_run.codec_file, "--out", tmp_path, "--no-compile")
    command("train", "prompt", *words)
    log = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert set(log) == {"step", "progress", "bpp", "feature", "deep", "kl"}
    after, own = load_file(str(tmp_path / "final.safetensors")), own_teacher().state_dict()
    assert student_of(tmp_path / "final.safetensors") == student
    untouched = after["tail/graph.5.weight"].equal(own["5.weight"])
    assert untouched == (student == "pixels")
    if student == "pixels":
        assert after["adapter/head.graph.0.weight"].equal(own["0.weight"])
        before = load_file(str(whole_run.codec_file))["extractor/conv0.weight"]
        assert not after["adapter/extractor.conv0.weight"].equal(before)


def test_stage_2_without_a_codec_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"stage 2 needs a trained codec: give the final\.safetensors"):
        train_prompt(STAGE2["detect2"], TrainingInputs([tmp_path], tmp_path / "x.onnx", tmp_path))


def test_training_imports_without_compressai() -> None:
    code = (
        "import sys; sys.modules['compressai'] = None; "
        "import splitcodec.training.codec_run, splitcodec.training.prompt_run; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr

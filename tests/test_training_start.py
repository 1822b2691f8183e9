"""A codec that starts from its teacher: its layers exactly, then the best linear code of what they give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import load_file
from torch.nn import functional as F
from training_rig import THIRD_PARTY, TINY, command, tiny_parts, write_photos, write_teacher

from splitcodec.errors import TrainingError
from splitcodec.models.sizes import SIZES
from splitcodec.models.stem import Stem
from splitcodec.training import recipes
from splitcodec.training.start import _cells, _teacher_name, linear_code, load_stem, set_linear_paths
from splitcodec.training.teacher import Teacher, open_teacher

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
WIDTH = 16


def _add_backbone(path: Path, channels: int) -> dict[str, torch.Tensor]:
    """Give an ONNX file the tensors of a YOLOX backbone of this width; returns them by name."""
    rng = np.random.default_rng(5)
    tensors = {
        _teacher_name(name): rng.normal(size=tuple(value.shape)).astype(np.float32) / 4
        for name, value in Stem(channels).state_dict().items()
    }
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    if path.exists():
        model = onnx.load(str(path))
        model.graph.initializer.extend(stored)
    else:
        model = helper.make_model(helper.make_graph([], "backbone", [], [], stored))
    onnx.save(model, str(path))
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


def _focus(bgr: torch.Tensor) -> torch.Tensor:
    """YOLOX's stem input: the 2x2 pixels as top left, bottom left, top right, bottom right."""
    return torch.cat([bgr[..., y::2, x::2] for y, x in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=1)


def test_stem_reads_rgb_as_the_teacher_reads_bgr_borders_included(tmp_path: Path) -> None:
    tensors = _add_backbone(tmp_path / "teacher.onnx", WIDTH)
    stem = Stem(WIDTH)
    load_stem(stem, tmp_path / "teacher.onnx")
    rgb = torch.rand(2, 3, 32, 48) * 255.0
    weight, bias = tensors["backbone.stem.conv.weight"], tensors["backbone.stem.conv.bias"]
    wanted = F.silu(F.conv2d(_focus(rgb.flip(1)), weight, bias, padding=1))
    seen: list[torch.Tensor] = []
    stem.enter.register_forward_hook(lambda module, inputs, output: seen.append(output))
    stem(rgb / 127.5 - 1.0)
    assert torch.allclose(seen[0], wanted, rtol=1e-4, atol=2e-2)
    deep = stem.stage3.bottlenecks[2].conv2.dconv[0].weight
    assert torch.equal(deep, tensors["backbone.dark3.csp.m2.conv2.dconv.weight"])


def test_teacher_of_another_width_is_refused_by_name_and_shape(tmp_path: Path) -> None:
    _add_backbone(tmp_path / "wide.onnx", 32)
    with pytest.raises(
        TrainingError, match=r"wide\.onnx has \(8, 12, 3, 3\) as backbone\.stem\.conv\.weight"
    ):
        load_stem(Stem(WIDTH), tmp_path / "wide.onnx")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return open_teacher(write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.onnx"))


def _crops(count: int = 4) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.rand(4, 3, 64, 64) * 255.0 for _ in range(count)]


def test_latent_is_decorrelated_in_the_metric_of_the_tail_and_whole_when_wide_enough(
    teacher: Teacher,
) -> None:
    crops = _crops()
    cells = torch.cat([_cells(teacher.split(image)) for image in crops])
    torch.manual_seed(1)
    code = linear_code(teacher, crops, cells.shape[1])
    y = (cells - code.mean) @ code.forward.T
    covariance = torch.cov(y.T)
    off = covariance - torch.diag(covariance.diagonal())
    assert off.abs().max() < 1e-6 * covariance.max(), "components do not predict each other"
    assert code.kept == pytest.approx(1.0)
    assert torch.allclose(y @ code.backward.T + code.mean, cells, atol=1e-6), "as many as cells: nothing lost"


def test_fewer_components_keep_what_the_tail_looks_at(teacher: Teacher) -> None:
    kept = []
    for channels in (8, 32, 96):
        torch.manual_seed(1)
        kept.append(linear_code(teacher, _crops(), channels).kept)
    assert kept == sorted(kept)
    assert 0.2 < kept[0] < kept[2] <= 1.0


def test_a_codec_with_its_linear_paths_set_gives_the_teachers_feature(teacher: Teacher) -> None:
    """No rounding, zero residual paths: g_s of g_a is the feature but for what the latent cannot hold."""
    sizes = replace(TINY, latent_channels=256, feature_channels=64, stem_channels=64, importance_maps=2)
    parts = tiny_parts(sizes=sizes)
    crops = _crops(40)
    torch.manual_seed(1)
    set_linear_paths(parts.codec.g_a, parts.codec.g_s, linear_code(teacher, crops, 256))
    feature = teacher.split(crops[0])
    with torch.no_grad():
        decoded = parts.codec.g_s(parts.codec.g_a.lin(feature))
    assert torch.allclose(decoded, feature, atol=1e-3 * float(feature.abs().max()))


@pytest.mark.slow
def test_start_command_writes_a_checkpoint_that_stage_1_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, teacher = write_photos(tmp_path / "photos"), write_teacher(tmp_path / "teacher.onnx")
    sizes = replace(TINY, stem_channels=64, feature_channels=64)
    _add_backbone(teacher, 64)
    monkeypatch.setitem(SIZES, "nano", sizes)
    short = {"sizes": "nano", "steps": 30, "crop": 64, "batch": 4}
    monkeypatch.setitem(recipes.STAGE1, "base2", replace(recipes.STAGE1["base2"], **short))
    monkeypatch.setattr("splitcodec.training.start_run.BASE2", recipes.STAGE1["base2"])
    data = ("--data", photos, "--teacher", teacher)
    command("train", "start", *data, "--also", teacher, "--out", tmp_path / "start")
    start = tmp_path / "start" / "final.safetensors"
    words = ("train", "codec", *data, "--out", tmp_path / "run", "--no-compile")
    with pytest.raises(TrainingError, match="base2 goes on from `splitcodec train start`"):
        command(*words)
    command(*words, "--also", teacher, "--start", start)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(log[0]) == {"step", "progress", "bpp", "feature", "mse", "deep", "obj", "cls", "box", "aside"}
    before, after = load_file(str(start)), load_file(str(tmp_path / "run" / "final.safetensors"))
    stem = [name for name in before if name.startswith("codec/g_a.stem.")]
    assert all(torch.equal(before[name], after[name]) for name in stem), "the stem is frozen"
    assert not torch.equal(before["codec/g_a.out.weight"], after["codec/g_a.out.weight"])
    summary = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (summary["recipe"], summary["after"]["recipe"]) == ("base2", "start")

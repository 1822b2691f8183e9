"""Teachers: cut in two without a change, measured once, and refused where the cut cannot be trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from training_rig import LABELS, write_teacher

from splitcodec.errors import TrainingError
from splitcodec.runtime import open_session
from splitcodec.training.teacher import YOLOX, Teacher, TorchTeacher, new_tail, open_teacher, split_statistics


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.onnx")


@pytest.fixture(scope="module")
def teacher(teacher_file: Path) -> Teacher:
    return open_teacher(teacher_file)


def image(height: int = 64, width: int = 96) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(2, 3, height, width) * 255


@pytest.mark.parametrize("size", [(64, 96), (160, 128)])
def test_both_halves_together_are_the_whole_teacher(
    teacher: Teacher, teacher_file: Path, size: tuple[int, int]
) -> None:
    """RGB goes in; the teacher's file wants BGR."""
    rgb = image(*size)
    with torch.no_grad():
        found = teacher.tail(teacher.split(rgb))
    session = open_session(teacher_file.read_bytes(), "ort-cpu")
    want = session.run({"images": rgb.flip(1).numpy()})
    for name in YOLOX.outputs:
        assert found[name].shape[1] == 5 + len(LABELS)
        assert np.allclose(found[name].numpy(), want[name], atol=1e-4), name


def test_tail_gives_everything_the_losses_compare(teacher: Teacher) -> None:
    with torch.no_grad():
        out = teacher.tail(teacher.split(image()))
    logits = {f"{kind}_{level}" for level in YOLOX.levels for kind in ("obj_logit", "cls_logit", "box")}
    assert set(out) == {*YOLOX.outputs, *YOLOX.deep, *logits}
    assert torch.allclose(torch.sigmoid(out["obj_logit_s16"]), out["head_s16"][:, 4:5])
    assert torch.equal(out["box_s32"], out["head_s32"][:, :4])


def test_teacher_is_frozen_and_a_new_tail_learns(teacher: Teacher, teacher_file: Path) -> None:
    assert not [name for name, p in teacher.named_parameters() if p.requires_grad]
    tail = new_tail(teacher_file)
    out = tail(teacher.split(image()))
    sum(value.square().mean() for value in out.values()).backward()
    assert [name for name, p in tail.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_resize_other_than_doubling_is_refused(tmp_path: Path) -> None:
    path = write_teacher(tmp_path / "x.onnx", factor=3.0)
    with pytest.raises(TrainingError, match=r"resizes by \[1\.0, 1\.0, 3\.0, 3\.0\]; only doubling"):
        new_tail(path)


def test_statistics_are_those_of_the_split_tensor(teacher: Teacher) -> None:
    torch.manual_seed(1)
    batches = [image(), image(96, 64)]
    statistics = split_statistics(teacher, batches)
    with torch.no_grad():
        variance = torch.stack([teacher.split(batch).var(dim=(0, 2, 3)) for batch in batches]).mean(0)
    lively = variance > 0.01 * variance.mean()
    assert torch.allclose(statistics.variance[lively], variance[lively])
    assert torch.allclose(statistics.variance[~lively], 0.01 * variance.mean())
    assert statistics.sensitivity.shape == (64,)
    assert (statistics.sensitivity > 0).all()


def test_channel_the_tail_ignores_has_no_sensitivity_and_a_dead_one_no_zero_variance(tmp_path: Path) -> None:
    model = onnx.load(str(write_teacher(tmp_path / "x.onnx")))
    changes = {"mid.w": (slice(None), 3), "pan_s8.w": (slice(None), 3), "stem.w": (5,)}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in changes:
            array[changes[tensor.name]] = 0.0
        if tensor.name == "stem.b":
            array[5] = -1.0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, str(tmp_path / "y.onnx"))
    statistics = split_statistics(open_teacher(tmp_path / "y.onnx"), [image()])
    assert statistics.sensitivity[3] == 0
    assert statistics.variance[5] == pytest.approx(0.01 * statistics.variance.mean().item(), rel=0.02)
    assert (statistics.variance > 0).all()


class _Toy(nn.Module):
    """A classifier: stem at 1/4 and 1/8, then a head; `shortcut` reads the stem past the body."""

    def __init__(self, shortcut: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 10, 2, stride=2), nn.ReLU())
        self.head = nn.Linear(10, 4)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        pooled = self.body(stem).mean(dim=(2, 3))
        return self.head(pooled) + stem.mean() if self.shortcut else self.head(pooled)


def toy_teacher() -> nn.Module:
    torch.manual_seed(7)
    return _Toy()


def toy_with_a_shortcut() -> nn.Module:
    return _Toy(shortcut=True)


@pytest.mark.parametrize(
    ("split", "channels", "stride"), [("stem", 6, 4), ("body", 10, 8), ("body.0", 10, 8)]
)
def test_any_torch_module_is_cut_at_a_submodule(split: str, channels: int, stride: int) -> None:
    source = TorchTeacher(f"{__name__}:toy_teacher", split, "shapes")
    teacher, picture = open_teacher(source), image()
    assert (teacher.spec.split_channels, teacher.spec.stride) == (channels, stride)
    with torch.no_grad():
        both = teacher.tail(teacher.split(picture))["logits"]
        assert torch.allclose(both, toy_teacher()(picture / 255.0), atol=1e-6)
    assert all(p.requires_grad for p in new_tail(source).parameters())
    statistics = split_statistics(teacher, [picture])
    assert statistics.sensitivity.shape == (channels,)


@pytest.mark.parametrize(
    ("function", "split", "message"),
    [
        ("toy_with_a_shortcut", "body", r"also reads \['stem_1'\] from before it"),
        ("toy_teacher", "neck", "0 calls of 'neck'; submodules are"),
        ("toy_teacher", "head", r"gives \(1, 4\) for a picture of 128 pixels"),
        ("no_such_function", "stem", "is not package.module:function"),
        ("image", "stem", "returned a Tensor, not a torch module"),
    ],
)
def test_module_that_cannot_be_cut_is_refused_with_the_reason(
    function: str, split: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        open_teacher(TorchTeacher(f"{__name__}:{function}", split, "shapes"))

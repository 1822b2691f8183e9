"""The paper's teachers are torchvision's networks, take its weight files, and never run code from one."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from splitcodec.errors import TrainingError
from splitcodec.training import paper_teachers
from splitcodec.training.paper_teachers import RetinaNetR50, retinanet_r50, teacher_source
from splitcodec.training.teacher import TorchTeacher, open_teacher
from splitcodec.training.weights import load_weights

pytestmark = pytest.mark.slow


def torchvision_retinanet() -> nn.Module:
    """Random weights and norms that do something."""
    from torchvision.models.detection import retinanet_resnet50_fpn

    torch.manual_seed(3)
    whole = retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()
    for name, value in whole.named_buffers():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif name.endswith(("running_var", "weight")):
            value.uniform_(0.5, 1.5)
    return whole


def test_retinanet_cut_at_layer1_gives_torchvisions_outputs_from_its_file(tmp_path: Path) -> None:
    whole = torchvision_retinanet()
    torch.save({"model": whole.state_dict()}, tmp_path / "retinanet.pth")
    source = teacher_source("retinanet-r50", weights=tmp_path / "retinanet.pth")
    teacher = open_teacher(source)
    assert (teacher.spec.task, teacher.spec.stride, teacher.spec.split_channels) == ("detect", 4, 256)
    assert teacher.spec.anchored
    picture = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        normalised = whole.transform.normalize(picture[0] / 255)
        want = whole.head(list(whole.backbone(normalised[None]).values()))
        found = teacher.tail(teacher.split(picture))
    for name in teacher.spec.outputs:
        assert torch.allclose(found[name], want[name], atol=1e-4), name
    assert set(found) == {"cls_logits", "bbox_regression", "layer2", "layer3", "layer4"}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 3)


def test_weight_files_of_every_kind_fill_a_module(tmp_path: Path) -> None:
    state = {"net.weight": torch.ones(3, 2), "net.bias": torch.zeros(3)}
    parallel = {f"module.{name}": value for name, value in state.items()}
    torch.save(parallel, tmp_path / "parallel.pth")
    torch.save({"state_dict": {**state, "aux_classifier.0.weight": torch.ones(1)}}, tmp_path / "aux.pth")
    save_file(state, str(tmp_path / "plain.safetensors"))
    for name in ("parallel.pth", "aux.pth", "plain.safetensors"):
        module = Small()
        load_weights(module, tmp_path / name)
        assert module.net.weight.equal(state["net.weight"]), name


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize("content", ["evil", "text", "list", "lacking", "no file"])
def test_file_that_is_no_state_dict_is_refused_and_runs_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "weights.pth"
    if content == "evil":
        torch.save({"model": Evil()}, file)
    elif content == "text":
        file.write_text("not weights")
    elif content == "list":
        torch.save([1, 2], file)
    elif content == "lacking":
        torch.save({"net.weight": torch.ones(3, 2)}, file)
    message = {"lacking": "does not fit Small", "list": "not a state dict"}.get(content, "holds no weights")
    with pytest.raises(TrainingError, match=message):
        load_weights(Small(), file)


def test_weights_that_cannot_be_fetched_name_the_two_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(TrainingError, match=r"cannot be fetched .*; give --weights FILE, or --random"):
        retinanet_r50()


def test_random_weights_are_the_same_every_time() -> None:
    first, second = (paper_teachers.retinanet_r50_untrained().state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(value.equal(second[name]) for name, value in first.items())
    assert set(first) == set(RetinaNetR50().state_dict())


def test_command_line_names() -> None:
    assert teacher_source("net.onnx") == Path("net.onnx")
    source = teacher_source("deeplabv3-r50", random_weights=True)
    assert isinstance(source, TorchTeacher)
    assert (source.split, source.task, source.function.endswith("deeplabv3_r50_untrained")) == (
        "backbone.layer1",
        "segment",
        True,
    )
    own = teacher_source("mine.py:net", "body", "shapes", Path("w.pth"))
    assert own == TorchTeacher("mine.py:net", "body", "shapes", Path("w.pth"))
    with pytest.raises(TrainingError, match=r"net\.onnx is a file with its own weights"):
        teacher_source("net.onnx", weights=Path("w.pth"))

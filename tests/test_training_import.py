"""Weights from outside: exactly the codec's tensors, giving exactly the numbers their maker saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from training_rig import THIRD_PARTY, TINY, command, tiny_parts, write_teacher

from splitcodec.errors import TrainingError
from splitcodec.models.sizes import SIZES
from splitcodec.training.codec_run import CodecParts
from splitcodec.training.conformance import ConformanceParts, stages
from splitcodec.training.import_weights import base_modules, silent, stem_name
from splitcodec.training.prompt_run import STAGE1_ADAPTERS
from splitcodec.training.teacher import new_tail

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
Tensors = dict[str, Tensor]
MINE_TO_THEIRS = [
    ("enter.0", "stem.c"),
    ("down2.dconv.0", "d2.c"),
    ("down2.pconv.0", "p2.c"),
    ("down3.dconv.0", "d3.c"),
    ("down3.pconv.0", "p3.c"),
    ("stage2.conv3.0", "c2.conv3.c"),
    ("stage2.bottlenecks.0.conv1.0", "c2.m.0.conv1.c"),
    ("stage3.bottlenecks.2.conv2.dconv.0", "c3.m.2.dconv.c"),
    ("stage3.bottlenecks.1.conv2.pconv.0", "c3.m.1.pconv.c"),
]


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "nano", TINY)


@pytest.mark.parametrize(("ours", "theirs"), MINE_TO_THEIRS)
def test_a_tensor_of_the_stem_is_found_by_its_name_in_a_weights_file(ours: str, theirs: str) -> None:
    assert stem_name(f"{theirs}.weight") == f"{ours}.weight"
    assert f"{ours}.weight" in tiny_parts().codec.g_a.stem.state_dict()


def _their_name(name: str) -> str:
    """`stage2.bottlenecks.0.conv2.dconv.0.weight` -> `c2.m.0.dconv.c.weight`."""
    path, _, kind = name.rpartition(".")
    path = path.replace("bottlenecks", "m").replace("conv2.dconv", "dconv").replace("conv2.pconv", "pconv")
    for ours, theirs in (("enter.0", "stem.0"), ("stage", "c"), ("down2.d", "d2.d"), ("down2.p", "p2.p")):
        path = path.replace(ours, theirs)
    for ours, theirs in (("down3.d", "d3.d"), ("down3.p", "p3.p"), ("d2.dconv", "d2"), ("p2.pconv", "p2")):
        path = path.replace(ours, theirs)
    path = path.replace("d3.dconv", "d3").replace("p3.pconv", "p3")
    return f"{path.removesuffix('.0')}.c.{kind}"


def save(path: Path, tensors: Tensors, **metadata: str) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(path), metadata=metadata)


def base_tensors(parts: CodecParts) -> Tensors:
    """The tiny codec's weights under the names of a base file."""
    found: Tensors = {}
    tasks = {name: task for task, name in STAGE1_ADAPTERS.items()}
    for module, net in base_modules(parts).items():
        prefix = f"adapter.{tasks[module]}" if module in tasks else module
        for name, value in net.state_dict().items():
            if name.startswith("g_a.stem."):
                name = "g_a.stem." + _their_name(name.removeprefix("g_a.stem."))
            found[f"{prefix}.{name}"] = value.clone()
    return found


def write_base(path: Path, change: Callable[[Tensors], object] = lambda tensors: None) -> Path:
    tensors = base_tensors(tiny_parts(5))
    change(tensors)
    save(path, tensors, steps="70")
    return path


def test_a_base_becomes_a_finished_run_with_every_weight(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base.safetensors")
    words = ("--minutes", 2, "--machine", "a test")
    command("train", "import", base, "--out", tmp_path / "run", *words)
    stored = load_file(str(tmp_path / "run" / "final.safetensors"))
    parts = tiny_parts(5)
    for name, value in parts.codec.state_dict().items():
        assert stored[f"codec/{name}"].equal(value), name
    assert {name.partition("/")[0] for name in stored} == set(base_modules(parts))
    summary = (tmp_path / "run" / "run.json").read_text()
    assert '"recipe":"base2"' in summary
    assert '"steps":70' in summary
    assert '"seconds":120.0' in summary


NAN = torch.full((8,), float("nan"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("codec.g_s.out.bias"), r"lacks tensors \['codec/g_s.out.bias'\]"),
        (lambda t: t.update({"codec.spare": torch.ones(1)}), r"has extra \['codec/spare'\]"),
        (lambda t: t.update({"codec.g_a.lin.bias": torch.ones(9)}), r"codec/g_a.lin.bias is \(9,\).*\(8,\)"),
        (lambda t: t.update({"codec.g_a.lin.bias": NAN}), "codec/g_a.lin.bias holds NaN"),
    ],
    ids=["missing", "extra", "shape", "nan"],
)
def test_other_tensors_than_the_codecs_are_refused_by_name(
    change: Callable[[Tensors], object], says: str, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base.safetensors", change)
    with pytest.raises(TrainingError, match=says):
        command("train", "import", base, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").write_bytes(b"\x80\x04junk")
    with pytest.raises(TrainingError, match="is not a safetensors file"):
        command("train", "import", tmp_path / "base.safetensors", "--out", tmp_path / "run")


def write_conformance(path: Path, change: Callable[[Tensors], object] = lambda tensors: None) -> Path:
    """What the tiny base gives for a picture, as its maker would state it."""
    parts = tiny_parts(5)
    torch.manual_seed(8)
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    whole = ConformanceParts(
        parts.codec, parts.gains, silent(parts.prompt), parts.hyper_prior, parts.adapter, None
    )
    stated = {f"base.{name}": value for name, value in stages(whole, image.float(), 1).items()}
    change(stated)
    save(path, {"image": image, **stated}, rate_point="1")
    return path


def test_weights_that_give_the_stated_numbers_are_taken(tmp_path: Path) -> None:
    stated = write_conformance(tmp_path / "stated.safetensors")
    base = write_base(tmp_path / "base.safetensors")
    command("train", "import", base, "--out", tmp_path / "run", "--conformance", stated)
    assert (tmp_path / "run" / "final.safetensors").is_file()


@pytest.mark.parametrize(
    "stage", ["stem", "trunk", "y", "z_symbols", "sigma_index", "symbols", "feature", "bits"]
)
def test_a_number_that_is_off_is_named(stage: str, tmp_path: Path) -> None:
    def change(stated: Tensors) -> None:
        stated[f"base.{stage}"] = stated[f"base.{stage}"] + 1.0

    stated = write_conformance(tmp_path / "stated.safetensors", change)
    base = write_base(tmp_path / "base.safetensors")
    with pytest.raises(TrainingError, match=rf"^base\.{stage} (is off by|differs in)"):
        command("train", "import", base, "--out", tmp_path / "run", "--conformance", stated)
    assert not (tmp_path / "run").exists()


def test_a_tasks_weights_need_its_teacher_and_become_a_run_of_stage_2(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "teacher.onnx")
    command("train", "import", write_base(tmp_path / "base.safetensors"), "--out", tmp_path / "base")
    codec = tmp_path / "base" / "final.safetensors"
    parts = tiny_parts(6)
    modules = {
        "prompt": parts.prompt,
        "gains": parts.gains,
        "hyper_prior": parts.hyper_prior,
        "adapter": parts.adapter,
        "tail": new_tail(teacher),
    }
    tensors = {f"{m}.{name}": v.clone() for m, net in modules.items() for name, v in net.state_dict().items()}
    for task in ("detect", "segment"):
        save(tmp_path / f"{task}.safetensors", tensors, task=task, steps="9")
    words = ("--teacher", teacher, "--codec", codec, "--out", tmp_path / "run")
    with pytest.raises(
        TrainingError, match="holds weights of task 'segment', the teacher is one for 'detect'"
    ):
        command("train", "import", tmp_path / "segment.safetensors", *words)
    command("train", "import", tmp_path / "detect.safetensors", *words)
    stored = load_file(str(tmp_path / "run" / "final.safetensors"))
    assert stored["prompt/branches.select.conv3.weight"].equal(tensors["prompt.branches.select.conv3.weight"])
    assert '"recipe":"detect2"' in (tmp_path / "run" / "run.json").read_text()

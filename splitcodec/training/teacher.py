"""Teachers cut in two at a named tensor: a frozen head that gives the target feature, a trainable tail.

A teacher is an ONNX file with known tensor names, or any torch module and the name of the submodule whose
output is to travel.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.teacher_inputs import TEACHER_INPUTS, UNIT_RANGE, TeacherInput
from splitcodec.training.cut import NamedOutputs, cut_onnx, cut_torch, load_onnx
from splitcodec.training.weights import load_weights

QUIET = 0.01  # floor of a channel's variance in units of the mean one: a dead channel must not divide by zero
EXAMPLE_SIDE = 128  # pixels of the picture a torch teacher is measured on


@dataclass(frozen=True)
class TeacherSpec:
    """Where a teacher is cut, what it takes and what its tail is compared by."""

    task: str
    split: str
    split_channels: int
    takes: TeacherInput
    outputs: tuple[str, ...]  # what the exported tail gives
    deep: tuple[str, ...]  # inner tensors compared by normalised MSE
    levels: tuple[str, ...] = ()  # suffixes of a detector's levels
    stride: int = 8  # of the split tensor: 8, or 4
    anchored: bool = False  # outputs are the class logits and the box deltas of anchors


YOLOX = TeacherSpec(
    task="detect",
    split="feat_s8",
    split_channels=64,
    takes=TEACHER_INPUTS["yolox"],
    outputs=("head_s8", "head_s16", "head_s32"),
    deep=("pan_s8", "pan_s16", "pan_s32", "feat_s16", "feat_s32"),
    levels=("s8", "s16", "s32"),
)
DEEPLAB = TeacherSpec(
    task="segment",
    split="feat_s8",
    split_channels=32,
    takes=TEACHER_INPUTS["deeplab"],
    outputs=("logits",),
    deep=("feat_s16", "feat_last"),
)
MOBILENET = TeacherSpec(
    task="classify",
    split="feat_s8",
    split_channels=32,
    takes=TEACHER_INPUTS["classify"],
    outputs=("logits",),
    deep=("feat_s16",),
)
SPECS = {spec.task: spec for spec in (YOLOX, DEEPLAB, MOBILENET)}


class NamedTeacher(nn.Module):
    """Base for a torch teacher whose forward returns a mapping with more than its outputs in it.

    outputs: what the exported tail gives; deep: inner tensors compared by normalised MSE; anchored: outputs
    are class logits (N, A, K) and box deltas (N, A, 4) of RetinaNet's anchors.
    """

    outputs: ClassVar[tuple[str, ...]]
    deep: ClassVar[tuple[str, ...]] = ()
    anchored: ClassVar[bool] = False


@dataclass(frozen=True)
class TorchTeacher:
    """A function that returns a torch module for images (N, 3, H, W), RGB 0..1.

    function: `package.module:name` or `path/to/file.py:name`. split: qualified name of the submodule whose
    output travels; it must lie at 1/8 or 1/4 of the picture. task: names the prompt. weights: file to fill
    the module from. Outputs (N, K) are a classifier's logits, (N, K, h, w) a segmenter's; see NamedTeacher.
    """

    function: str
    split: str
    task: str
    weights: Path | None = None

    def module(self) -> nn.Module:
        """Import and call the function; TrainingError if that does not give a module."""
        place, _, name = self.function.rpartition(":")
        try:
            made = getattr(_imported(place), name)()
        except (ImportError, AttributeError, OSError, ValueError) as error:
            raise TrainingError(f"{self.function} is not package.module:function: {error}") from error
        if not isinstance(made, nn.Module):
            raise TrainingError(f"{self.function} returned a {type(made).__name__}, not a torch module")
        if self.weights is not None:
            load_weights(made, self.weights)
        return made


def _imported(place: str) -> ModuleType:
    """A module by its name, or by its file."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TeacherSource: TypeAlias = Path | TorchTeacher


class TeacherHead(nn.Module):
    """image (N, 3, H, W) RGB 0..255 -> split tensor (N, Ct, H/stride, W/stride)."""

    def __init__(self, spec: TeacherSpec, graph: nn.Module) -> None:
        super().__init__()
        self.spec, self.graph = spec, graph

    def forward(self, image: Tensor) -> Tensor:
        x = image.flip(1) if self.spec.takes.bgr else image
        value = self.graph(x * self.spec.takes.scale + self.spec.takes.offset)
        return value[self.spec.split] if isinstance(value, dict) else value


class Teacher(nn.Module):
    """Frozen teacher: `split(image)` gives the target, `tail(feature)` everything the losses compare.

    `near(feature)` gives the first of its inner tensors alone, which costs a fraction of the tail.
    """

    def __init__(
        self, spec: TeacherSpec, head: nn.Module, tail: NamedOutputs, near: NamedOutputs | None = None
    ) -> None:
        super().__init__()
        self.spec, self.split, self.tail = spec, TeacherHead(spec, head), tail
        self.near = tail if near is None else near
        self.requires_grad_(False).eval()


def open_teacher(source: TeacherSource) -> Teacher:
    """The frozen teacher of a file or function; TrainingError if it is unknown or cannot be cut."""
    if isinstance(source, TorchTeacher):
        return copy.deepcopy(_open_torch(source))
    spec = spec_of(source)
    near = cut_onnx(source, spec.split, spec.deep[:1])
    return Teacher(spec, cut_onnx(source, "images", (spec.split,)), new_tail(source), near)


def new_tail(source: TeacherSource) -> NamedOutputs:
    """A fresh copy of the teacher's layers behind the split, ready to train."""
    if isinstance(source, TorchTeacher):
        return open_teacher(source).tail.requires_grad_(True)
    spec = spec_of(source)
    logits = tuple(f"{kind}_{level}" for level in spec.levels for kind in ("obj_logit", "cls_logit", "box"))
    return cut_onnx(source, spec.split, (*spec.outputs, *logits, *spec.deep))


def spec_of(source: TeacherSource) -> TeacherSpec:
    """Which of the known teachers a file holds, by its outputs; a torch teacher is measured."""
    if isinstance(source, TorchTeacher):
        return _open_torch(source).spec
    graph = load_onnx(source).graph
    outputs = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.output}
    if "head_s8" in outputs:
        return YOLOX
    if "logits" in outputs:
        return DEEPLAB if outputs["logits"] == 4 else MOBILENET
    raise TrainingError(f"{source.name} has outputs {sorted(outputs)}; none of the known teachers has these")


@lru_cache(maxsize=2)  # a run asks for it several times; tracing a ResNet-50 takes seconds
def _open_torch(source: TorchTeacher) -> Teacher:
    module = source.module()
    head, tail = cut_torch(module, source.split, torch.zeros(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE))
    with torch.no_grad():
        feature = head(torch.zeros(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE))
    stride = EXAMPLE_SIDE // feature.shape[-1] if feature.dim() == 4 else 0
    if stride not in (4, 8):
        raise TrainingError(
            f"{source.split} of {source.function} gives {tuple(feature.shape)} for a picture of "
            f"{EXAMPLE_SIDE} pixels; split at 1/8 or 1/4 of the picture"
        )
    named = isinstance(module, NamedTeacher)
    spec = TeacherSpec(
        task=source.task,
        split=source.split,
        split_channels=feature.shape[1],
        takes=UNIT_RANGE,
        outputs=module.outputs if named else tail.names[:1],
        deep=module.deep if named else (),
        stride=stride,
        anchored=named and module.anchored,
    )
    return Teacher(spec, head, tail)


@dataclass(frozen=True)
class SplitStatistics:
    """Per channel of the split tensor, both (Ct,): variance, and mean squared gradient of the outputs."""

    variance: Tensor
    sensitivity: Tensor

    def to(self, device: torch.device) -> SplitStatistics:
        return SplitStatistics(self.variance.to(device), self.sensitivity.to(device))


def split_statistics(teacher: Teacher, batches: list[Tensor]) -> SplitStatistics:
    """Measured once before training; it tells which channels of the split tensor the tail cares about."""
    squares, gradients = [], []
    for image in batches:
        with torch.no_grad():
            feature = teacher.split(image)
        squares.append(feature.var(dim=(0, 2, 3)))
        feature.requires_grad_(True)
        out = teacher.tail(feature)
        (grad,) = torch.autograd.grad(_signed_sum(out, teacher.spec), feature)
        gradients.append(grad.square().mean(dim=(0, 2, 3)))
    variance = torch.stack(squares).mean(0)
    return SplitStatistics(variance.clamp_min(QUIET * variance.mean()), torch.stack(gradients).mean(0))


def _signed_sum(out: dict[str, Tensor], spec: TeacherSpec) -> Tensor:
    """Sum of the logits with random signs, so that squared gradients add up per output.

    A detector's count by the objectness of their cell.
    """
    if spec.anchored:
        classes, boxes = (out[name] for name in spec.outputs)
        confidence = torch.sigmoid(classes).amax(dim=2, keepdim=True).detach()
        return sum((value * _signs(value) * (confidence + 0.02)).sum() for value in (classes, boxes))
    if not spec.levels:
        logits = out[spec.outputs[0]]
        return (logits * _signs(logits)).sum()
    scalar = torch.zeros(())
    for level in spec.levels:
        confidence = torch.sigmoid(out[f"obj_logit_{level}"]).detach()
        for kind in ("obj_logit", "cls_logit", "box"):
            value = out[f"{kind}_{level}"]
            scalar = scalar + (value * _signs(value) * (confidence + 0.02)).sum()
    return scalar


def _signs(value: Tensor) -> Tensor:
    return torch.randint_like(value, 2) * 2 - 1

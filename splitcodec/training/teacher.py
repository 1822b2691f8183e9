"""Teachers cut in two at a named tensor: a frozen head that gives the target feature, a trainable tail."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from splitcodec.errors import TrainingError

QUIET = (
    0.01  # floor of a channel's variance, in units of the mean one: a dead channel must not divide by zero
)


@dataclass(frozen=True)
class TeacherSpec:
    """Where a teacher is cut, what it eats and what its tail is compared by."""

    task: str
    split: str
    split_channels: int
    bgr: bool
    outputs: tuple[str, ...]  # what the exported tail gives
    deep: tuple[str, ...]  # inner tensors compared by normalised MSE
    levels: tuple[str, ...] = ()  # suffixes of a detector's levels


YOLOX = TeacherSpec(
    task="detect",
    split="feat_s8",
    split_channels=64,
    bgr=True,
    outputs=("head_s8", "head_s16", "head_s32"),
    deep=("pan_s8", "pan_s16", "pan_s32", "feat_s16", "feat_s32"),
    levels=("s8", "s16", "s32"),
)


class NamedOutputs(nn.Module):
    """A converted ONNX graph whose outputs come back under their names."""

    def __init__(self, graph: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.graph = graph
        self.names = names

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        values = self.graph(x)
        return dict(zip(self.names, values if isinstance(values, (list, tuple)) else (values,), strict=True))


class Teacher(nn.Module):
    """Frozen teacher: `split(image)` gives the target, `tail(feature)` everything the losses compare."""

    def __init__(self, path: Path, spec: TeacherSpec) -> None:
        super().__init__()
        self.spec = spec
        self.head = cut(path, "images", (spec.split,))
        self.tail = new_tail(path, spec)
        self.requires_grad_(False).eval()

    def split(self, image: Tensor) -> Tensor:
        """image (N, 3, H, W) RGB 0..255 -> split tensor (N, Ct, H/8, W/8)."""
        return self.head(image.flip(1) if self.spec.bgr else image)[self.spec.split]


def new_tail(path: Path, spec: TeacherSpec) -> NamedOutputs:
    """A fresh copy of the teacher's layers behind the split, ready to train."""
    logits = tuple(f"{kind}_{level}" for level in spec.levels for kind in ("obj_logit", "cls_logit", "box"))
    return cut(path, spec.split, (*spec.outputs, *logits, *spec.deep))


def cut(path: Path, source: str, outputs: tuple[str, ...]) -> NamedOutputs:
    """The part of an ONNX graph between tensor `source` and the named outputs, as a torch module."""
    import onnx
    from onnx.utils import Extractor
    from onnx2torch import convert

    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path)))  # names every inner tensor
    model = Extractor(graph).extract_model([source], list(outputs))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.onnx"
        onnx.save(model, str(file))
        return NamedOutputs(_with_fixed_upsampling(convert(str(file))), outputs)


class Upsample2(nn.Module):
    """Nearest-neighbour doubling; takes and ignores the scales that ONNX Resize is given as a tensor."""

    def forward(self, x: Tensor, scales: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _with_fixed_upsampling(graph: fx.GraphModule) -> fx.GraphModule:
    """Replace Resize by a constant factor 2: a scale read from a tensor cannot be traced for export."""
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or type(graph.get_submodule(node.target)).__name__ != "OnnxResize":
            continue
        values = graph.get_buffer(node.kwargs["scales"].target).tolist()
        if values != [1.0, 1.0, 2.0, 2.0]:
            raise TrainingError(
                f"{node.target} resizes by {values}; only doubling of height and width is supported"
            )
        graph.set_submodule(node.target, Upsample2())
    return graph


@dataclass(frozen=True)
class SplitStatistics:
    """Per channel of the split tensor, both (Ct,): variance, and mean squared gradient of the outputs."""

    variance: Tensor
    sensitivity: Tensor


def split_statistics(teacher: Teacher, batches: list[Tensor]) -> SplitStatistics:
    """Measured once before training; it tells which channels of the split tensor the tail cares about."""
    squares, gradients = [], []
    for image in batches:
        with torch.no_grad():
            feature = teacher.split(image)
        squares.append(feature.var(dim=(0, 2, 3)))
        feature.requires_grad_(True)
        out = teacher.tail(feature)
        scalar = torch.zeros(())
        for level in teacher.spec.levels:
            confidence = torch.sigmoid(out[f"obj_logit_{level}"]).detach()
            for kind in ("obj_logit", "cls_logit", "box"):
                value = out[f"{kind}_{level}"]
                signs = (
                    torch.randint_like(value, 2) * 2 - 1
                )  # random signs: squared gradients add up per output
                scalar = scalar + (value * signs * (confidence + 0.02)).sum()
        (grad,) = torch.autograd.grad(scalar, feature)
        gradients.append(grad.square().mean(dim=(0, 2, 3)))
    variance = torch.stack(squares).mean(0)
    return SplitStatistics(variance.clamp_min(QUIET * variance.mean()), torch.stack(gradients).mean(0))

"""The linear, task-weighted start of a codec: its stem is the teacher's, its latent a transform code of it.

h of a 2x2 cell is a vector u. With C the covariance of u, M the mean outer product of the gradients of the
tail's normalised deep tensors (random signs), and W = M^(1/2), the leading eigenvectors B of W C W give

    y = B^T W (u - mu) / s        u^ = W^-1 B s y + mu

the best linear code of h in the metric of what the tail does with it. g_a.lin and g_s.lin are set to these
and the residual paths end in zero, so the very first step already detects and training only makes it cheap.
A random start left two thirds of the latent's channels silent for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.stem import FOCUS, Stem
from splitcodec.models.transforms import Analysis, FeatureAdapter, Synthesis
from splitcodec.training.losses import DEEP_FLOOR
from splitcodec.training.teacher import Teacher

PIXEL_RANGE = 127.5  # the teacher eats 0..255, the stem -1..1
FOCUS_ORDER = ((0, 0), (1, 0), (0, 1), (1, 1))  # (row, column) of the 2x2 pixels in the teacher's stem
METRIC_FLOOR = 0.03  # of the mean weight: what the tail does not look at must still be decodable
LATENT_SPREAD = 1.0  # mean standard deviation of y's channels, which the start's gains are meant for
CELL = 2  # the latent has one vector per 2x2 positions of h


@dataclass(frozen=True)
class LinearCode:
    """forward (Cy, 4C) and backward (4C, Cy) of cells (4C,) about their mean; kept: share of the variance."""

    forward: Tensor
    backward: Tensor
    mean: Tensor
    kept: float


def start_from_teacher(
    codec: FeatureCodec, adapter: FeatureAdapter, teacher: Teacher, file: Path, crops: list[Tensor]
) -> float:
    """Fill the stem, both linear paths and the teacher's adapter in place.

    file: the teacher, a YOLOX; crops: some batches (N, 3, H, W), RGB 0..255. Returns the share of the
    task-weighted variance of h that the latent keeps. TrainingError if the teacher's layers do not fit.
    """
    load_stem(codec.g_a.stem, file)
    code = linear_code(teacher, crops, codec.sizes.latent_channels)
    set_linear_paths(codec.g_a, codec.g_s, code)
    with torch.no_grad():
        channels = teacher.spec.split_channels
        adapter.out.weight.zero_()
        adapter.out.weight[:, :channels, 0, 0] = torch.eye(channels)
        adapter.out.bias.zero_()
    return code.kept


def load_stem(stem: Stem, file: Path) -> None:
    """Weights of a YOLOX ONNX file by name; it reads BGR 0..255 and another order of 2x2 pixels than ours."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(file)).graph
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    state: dict[str, Tensor] = {}
    for name, value in stem.state_dict().items():
        source = _teacher_name(name)
        if source not in stored or stored[source].shape != value.shape:
            found = tuple(stored[source].shape) if source in stored else "nothing"
            raise TrainingError(
                f"{file.name} has {found} as {source}, the stem wants {tuple(value.shape)}; "
                "it starts from a YOLOX with a depthwise CSPDarknet of the same width only"
            )
        state[name] = stored[source]
    order = [
        FOCUS_ORDER.index((dy, dx)) * 3 + (2 - c)
        for c in range(3)
        for dy in range(FOCUS)
        for dx in range(FOCUS)
    ]
    weight = state["enter.0.weight"][:, order] * PIXEL_RANGE
    state["enter.0.weight"] = weight
    state["enter.0.bias"] = state["enter.0.bias"] + weight.sum(dim=(1, 2, 3))  # pixels are 127.5 (x + 1)
    stem.load_state_dict(state)


def _teacher_name(name: str) -> str:
    """`stage3.bottlenecks.1.conv2.dconv.0.weight` -> `backbone.dark3.csp.m1.conv2.dconv.weight`."""
    parts = name.split(".")
    kind, inner = parts[-1], parts[:-2]  # the last number is the place in a ConvSiLU
    if inner == ["enter"]:
        return f"backbone.stem.conv.{kind}"
    stage, rest = inner[0], inner[1:]
    if rest[0] == "bottlenecks":
        rest = [f"m{rest[1]}", *rest[2:]]
    section = "down" if stage.startswith("down") else "csp"
    return ".".join(["backbone", f"dark{stage[-1]}", section, *rest, kind])


def linear_code(teacher: Teacher, crops: Iterable[Tensor], latent_channels: int) -> LinearCode:
    """The code of the teacher's split tensor, measured on crops (N, 3, H, W), RGB 0..255."""
    moments, seen = [], []
    for image in crops:
        feature, gradient = _feature_and_gradient(teacher, image)
        seen.append(_cells(feature))
        slopes = _cells(gradient)
        moments.append(slopes.T @ slopes / len(slopes))
    cells = torch.cat(seen)
    mean = cells.mean(dim=0)
    covariance = torch.cov((cells - mean).T)
    metric = torch.stack(moments).mean(dim=0)
    metric = metric / metric.diagonal().mean() + METRIC_FLOOR * torch.eye(len(metric), dtype=metric.dtype)
    values, vectors = torch.linalg.eigh(metric)
    root = vectors * values.sqrt() @ vectors.T
    inverse = vectors / values.sqrt() @ vectors.T
    powers, basis = torch.linalg.eigh(root @ covariance @ root)
    powers, basis = powers.flip(0), basis.flip(1)[:, :latent_channels]
    scale = powers[:latent_channels].clamp_min(0.0).sqrt().mean() / LATENT_SPREAD
    kept = float(powers[:latent_channels].sum() / powers.sum())
    return LinearCode((basis / scale).T @ root, inverse @ (basis * scale), mean, kept)


def _cells(feature: Tensor) -> Tensor:
    """(N, C, h, w) -> 2x2 cells (N h/2 w/2, 4C) float64, channel c*4 + position."""
    return F.pixel_unshuffle(feature, CELL).permute(0, 2, 3, 1).flatten(0, 2).double()


def _feature_and_gradient(teacher: Teacher, image: Tensor) -> tuple[Tensor, Tensor]:
    """The split tensor, and the gradient of the sum of the normalised deep tensors with random signs."""
    with torch.no_grad():
        feature = teacher.split(image)
    feature.requires_grad_(True)
    out = teacher.tail(feature)
    total = torch.zeros(())
    for name in teacher.spec.deep or teacher.spec.outputs:
        value = out[name]
        spread = (value.detach().var(dim=(0, 2, 3), keepdim=True) + DEEP_FLOOR).sqrt()
        signs = torch.randint_like(value, 2) * 2 - 1
        total = total + (value / spread * signs).sum() / value.numel() ** 0.5
    (gradient,) = torch.autograd.grad(total, feature)
    return feature.detach(), gradient


@torch.no_grad()
def set_linear_paths(analysis: Analysis, synthesis: Synthesis, code: LinearCode) -> None:
    """g_a.lin and g_s.lin in place; channels of h^ beyond the teacher's start at zero."""
    latent, cells = code.forward.shape
    analysis.lin.weight.copy_(code.forward.reshape(latent, cells // CELL**2, CELL, CELL))
    analysis.lin.bias.copy_(-(code.forward @ code.mean))
    synthesis.lin.weight.zero_()
    synthesis.lin.bias.zero_()
    synthesis.lin.weight[:cells, :, 0, 0] = code.backward.to(synthesis.lin.weight)
    synthesis.lin.bias[:cells] = code.mean.to(synthesis.lin.bias)

"""How a codec with a darknet front starts: the teacher's layers, then their principal components as latent.

At the first step y is already a transform code of the teacher's feature (Karhunen-Loeve over cells of 2x2
positions, in the metric of losses.feature_error) and the gains already span the wanted sizes; training only
has to improve on it. A random start left two thirds of the latent's channels silent for good.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, RateGains
from splitcodec.models.front import FOCUS, DarknetFront
from splitcodec.models.transforms import DarknetAnalysis
from splitcodec.training.teacher import SplitStatistics

CELL_BITS = (12.0, 24.0, 44.0, 80.0)  # bits per latent position the start's gains aim at, per rate point
QUIET_BLOCK = 0.1  # residual branches start near the identity
PIXEL_RANGE = 127.5  # the teacher eats 0..255, the front 0..2
FOCUS_ORDER = ((0, 0), (1, 0), (0, 1), (1, 1))  # (row, column) of the 2x2 pixels in the teacher's stem


def start_from_teacher(
    codec: FeatureCodec, gains: RateGains, statistics: SplitStatistics, file: Path, crops: list[Tensor]
) -> list[float]:
    """Fill g_a and the gains in place; returns the feature error expected at each rate point.

    file: the teacher; crops: some batches (N, 3, H, W), RGB 0..255. TrainingError if its layers do not fit.
    """
    analysis = codec.g_a
    if not isinstance(analysis, DarknetAnalysis):
        raise TrainingError(
            f"codec size {codec.sizes.name} has no darknet front; only such a codec starts so"
        )
    load_front(analysis.front, file)
    variances = principal_start(analysis, statistics, crops)
    steps = [quantiser_step(variances, bits) for bits in CELL_BITS[: codec.sizes.rate_points]]
    with torch.no_grad():
        analysis.down.weight.mul_(1.0 / steps[0])
        analysis.down.bias.mul_(1.0 / steps[0])
        for k, step in enumerate(steps):
            gains.log_gain_y[k] = math.log(steps[0] / step)
    return [float(torch.minimum(variances, torch.tensor(step**2 / 12)).sum() / 4) for step in steps]


def load_front(front: DarknetFront, file: Path) -> None:
    """Weights of a YOLOX ONNX file by name; its stem reads BGR and another order of 2x2 pixels than ours."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(file)).graph
    stored = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    state: dict[str, Tensor] = {}
    for name, value in front.state_dict().items():
        source = _teacher_name(name)
        if source not in stored or stored[source].shape != value.shape:
            found = tuple(stored[source].shape) if source in stored else "nothing"
            raise TrainingError(
                f"{file.name} has {found} as {source}, the front wants {tuple(value.shape)}; "
                "it starts from a YOLOX with a depthwise CSPDarknet of the same width only"
            )
        state[name] = stored[source]
    weight = state["stem.0.weight"]
    order = [
        FOCUS_ORDER.index((dy, dx)) * 3 + (2 - c)
        for c in range(3)
        for dy in range(FOCUS)
        for dx in range(FOCUS)
    ]
    state["stem.0.weight"] = weight[:, order] * PIXEL_RANGE
    front.load_state_dict(state)


def _teacher_name(name: str) -> str:
    """`stage3.bottlenecks.1.conv2.dconv.0.weight` -> `backbone.dark3.csp.m1.conv2.dconv.weight`."""
    parts = name.split(".")
    kind, inner = parts[-1], parts[:-2]  # the last number is the place in a ConvSiLU
    if inner == ["stem"]:
        return f"backbone.stem.conv.{kind}"
    stage, rest = inner[0], inner[1:]
    if rest[0] == "bottlenecks":
        rest = [f"m{rest[1]}", *rest[2:]]
    section = "down" if stage.startswith("down") else "csp"
    return ".".join(["backbone", f"dark{stage[-1]}", section, *rest, kind])


@torch.no_grad()
def principal_start(analysis: DarknetAnalysis, statistics: SplitStatistics, crops: list[Tensor]) -> Tensor:
    """`down` becomes the principal components of 2x2 cells; returns their variances, largest first (Cy,)."""
    latent = analysis.out.out_channels
    if analysis.down.out_channels != latent:
        raise TrainingError(
            f"{analysis.down.out_channels} channels in front of {latent} latent ones; both must be equal"
        )
    weights = metric(statistics).sqrt()
    features = torch.cat([analysis.front(image * (1.0 / PIXEL_RANGE)) for image in crops])
    weighted = features * weights[None, :, None, None]
    cells = F.pixel_unshuffle(weighted, 2).permute(0, 2, 3, 1).flatten(0, 2)  # channel c*4 + position
    mean = cells.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((cells - mean).T))
    basis = vectors.flip(1)[:, :latent].T  # (Cy, 4C)
    analysis.down.weight.copy_(basis.reshape(latent, -1, 2, 2) * weights[None, :, None, None])
    analysis.down.bias.copy_(-(basis @ mean))
    for block in analysis.coarse:
        block.project.weight.mul_(QUIET_BLOCK)
        nn.init.zeros_(block.project.bias)
    nn.init.dirac_(analysis.out.weight)
    nn.init.zeros_(analysis.out.bias)
    return values.flip(0)[:latent].clamp_min(1e-9)


def metric(statistics: SplitStatistics) -> Tensor:
    """Weight of each channel's squared error in losses.feature_error, (C,)."""
    sensitivity = statistics.sensitivity
    plain = 1.0 / (statistics.variance * len(statistics.variance))
    return 0.5 * plain + 0.5 * sensitivity / (sensitivity * statistics.variance).sum()


def quantiser_step(variances: Tensor, bits: float) -> float:
    """Step at which Gaussians of these variances cost `bits` in all (high-rate entropy, none negative)."""
    low, high = 1e-4, 1e3
    for _ in range(60):
        step = math.sqrt(low * high)
        spent = 0.5 * torch.log2(2.0 * math.pi * math.e * variances / step**2)
        low, high = (low, step) if float(spent.clamp_min(0.0).sum()) < bits else (step, high)
    return math.sqrt(low * high)

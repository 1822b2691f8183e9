"""The scale branch of h_s: z symbols -> sigma index, integer-exact on every machine.

Everything that decides a probability is an integer. Activations are integers in [0, 255], weights are
integers at export, and for every output channel sum|w|*A + |b| + 2**(s-1) < limit <= 2**24, so each product
and each partial sum, in any order, is an integer that float32 holds exactly. Requantisation is
`floor((acc + 2**(s-1)) * 2**-s)`: exact too. Only clamp and ReLU occur. In training the same grid is
simulated with straight-through rounding; weights stay float, because their integer form has 10 or more bits
and costs nothing measurable.

Sources: integer networks (Balle 2019), IntConv2d of CompressAI-Vision with its statistical bound replaced by
a hard one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.prompts import PromptConv
from splitcodec.models.sizes import CodecSizes

ACT_STEPS = 16  # activation grid: 1/16, held as integers 0..255
ACT_MAX = 255
INDEX_UNIT = 8.0  # one unit of the network's output is eight sigma levels
INDEX_START = 22  # about sigma 1: where the index starts before anything is learnt
FLOAT_EXACT = 1 << 24
SUMMED_LIMIT = 1 << 23  # base and prompt accumulators are added: each may use half


def ste_round(x: Tensor) -> Tensor:
    """Round half up, with the identity as gradient."""
    return x + (torch.floor(x + 0.5) - x).detach()


def act(x: Tensor) -> Tensor:
    """ReLU, clamp and rounding onto the activation grid (training form)."""
    return ste_round(torch.clamp(x, 0.0, ACT_MAX / ACT_STEPS) * ACT_STEPS) / ACT_STEPS


class ScaleBranch(nn.Module):
    """z symbols (N, Cz, hz, wz) -> sigma index (N, Cy, 4hz, 4wz), continuous; integer at export."""

    def __init__(self, sizes: CodecSizes, width: int = 64) -> None:
        super().__init__()
        self.layout = (
            PromptConv(sizes.hyper_channels, width, 3),
            PromptConv(width, 4 * width, shuffle=2),
            PromptConv(width, width, 3),
            PromptConv(width, 4 * sizes.latent_channels),
        )
        for i, conv in enumerate(self.layout):
            setattr(
                self, f"conv{i}", nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, padding=conv.kernel // 2)
            )

    def tensors(self) -> dict[str, Tensor]:
        """`conv0.weight` ... -> parameters."""
        return dict(self.named_parameters())

    def forward(
        self, z: Tensor, prompt: Mapping[str, Tensor], prompt_layout: tuple[PromptConv, ...]
    ) -> Tensor:
        base = _trunk(z, self.tensors(), "", self.layout)
        bend = _trunk(z, prompt, "h_s_scale.", prompt_layout)
        return F.pixel_shuffle(base + bend, 2) * INDEX_UNIT + INDEX_START


def _trunk(z: Tensor, tensors: Mapping[str, Tensor], prefix: str, layout: tuple[PromptConv, ...]) -> Tensor:
    x = z
    for i, conv in enumerate(layout):
        x = conv.apply(x, tensors[f"{prefix}conv{i}.weight"], tensors[f"{prefix}conv{i}.bias"])
        if i < len(layout) - 1:
            x = act(x)
    return x


@dataclass(frozen=True)
class IntegerConv:
    """One exported convolution: integer-valued float32 weight and bias, input limit A, shift s, bound."""

    weight: Tensor
    bias: Tensor
    input_limit: int
    shift: int
    limit: int

    def worst_case(self) -> int:
        """max over output channels of sum|w|*A + |b| + 2**(s-1), in exact integer arithmetic."""
        total = self.weight.abs().to(torch.int64).sum(dim=(1, 2, 3)) * self.input_limit
        return int((total + self.bias.abs().to(torch.int64)).max()) + (1 << (self.shift - 1))

"""Parallel task prompts: out = base(x) + prompt(x), four convolutions each, only the last starting at zero.

Starting all four at zero, as Shen & Liu print it, is a dead network: no weight but the last bias ever
receives a gradient. With only the last one at zero the output equals the base bit for bit and every weight
learns.

A prompt's weights are arguments, not state, of the arithmetic: `PromptBranch.run` takes them as a mapping, so
that an exported graph has them as inputs and one session serves every task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.blocks import activate
from splitcodec.models.sizes import CodecSizes


@dataclass(frozen=True)
class PromptConv:
    """One convolution of a prompt: its kernel, and the rearrangement done before or after it."""

    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    unshuffle: int = 1  # space-to-depth before the convolution
    shuffle: int = 1  # depth-to-space after it

    @property
    def groups(self) -> int:
        return self.inputs if self.depthwise else 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x (N, inputs/unshuffle^2, h, w) -> the convolution's output, rearranged."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = F.conv2d(x, weight, bias, self.stride, self.kernel // 2, groups=self.groups)
        return F.pixel_shuffle(x, self.shuffle) if self.shuffle > 1 else x


def prompt_layout(sizes: CodecSizes) -> dict[str, tuple[PromptConv, ...]]:
    """Group name -> its four convolutions. About 0.18 M parameters per task for the nano codec.

    `g_a` reads the stem's feature; `select`, the information selector of Prompt-ICM, reads g_a's trunk and
    gives the logits of the importance maps.
    """
    y, z = sizes.latent_channels, sizes.hyper_channels
    dw = {"depthwise": True}
    return {
        "g_a": (
            PromptConv(4 * sizes.stem_channels, 64, unshuffle=2),
            PromptConv(64, 64, 5, **dw),
            PromptConv(64, 64),
            PromptConv(64, y),
        ),
        "select": (
            PromptConv(4 * sizes.trunk_channels, 64, unshuffle=2),
            PromptConv(64, 64, 5, **dw),
            PromptConv(64, 64),
            PromptConv(64, 4 * sizes.importance_maps, shuffle=2),
        ),
        "h_a": (
            PromptConv(y, 48),
            PromptConv(48, 48, 5, 2, **dw),
            PromptConv(48, 48, 5, 2, **dw),
            PromptConv(48, z),
        ),
        "h_s_mean": (
            PromptConv(z, 64),
            PromptConv(64, 64, 3, **dw),
            PromptConv(64, 256, shuffle=2),
            PromptConv(64, sizes.mean_channels),
        ),
        "h_s_scale": (
            PromptConv(z, 32),
            PromptConv(32, 32, 3, **dw),
            PromptConv(32, 128, shuffle=2),
            PromptConv(32, 4 * y),
        ),
        "g_s": (
            PromptConv(y, 128),
            PromptConv(128, 128, 5, **dw),
            PromptConv(128, 256, shuffle=2),
            PromptConv(64, sizes.feature_channels),
        ),
    }


class PromptBranch(nn.Module):
    """The four convolutions beside one transform, with parameters `conv0.weight` ... `conv3.bias`."""

    def __init__(self, group: str, layout: tuple[PromptConv, ...]) -> None:
        super().__init__()
        self.group = group
        self.layout = layout
        for i, conv in enumerate(layout):
            holder = nn.Module()
            weight = torch.empty(conv.shape)
            nn.init.kaiming_normal_(weight, a=0.1)
            last = i == len(layout) - 1
            holder.weight = nn.Parameter(torch.zeros_like(weight) if last else weight)
            holder.bias = nn.Parameter(torch.zeros(conv.outputs))
            setattr(self, f"conv{i}", holder)

    def tensors(self) -> dict[str, Tensor]:
        """Names as in a prompt pack (`g_a.conv0.weight`) -> this branch's parameters."""
        return {f"{self.group}.{name}": value for name, value in self.named_parameters()}

    def run(self, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """x -> what is added to the base transform's output, computed with the given tensors."""
        for i, conv in enumerate(self.layout):
            weight = tensors[f"{self.group}.conv{i}.weight"]
            x = conv.apply(x, weight, tensors[f"{self.group}.conv{i}.bias"])
            if i < len(self.layout) - 1:
                x = activate(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, self.tensors())


class TaskPrompt(nn.Module):
    """All prompts of one task; groups as in `prompt_layout`."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        layout = prompt_layout(sizes)
        self.branches = nn.ModuleDict({group: PromptBranch(group, convs) for group, convs in layout.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Every prompt tensor of the task under its prompt-pack name."""
        merged: dict[str, Tensor] = {}
        for branch in self.branches.values():
            merged.update(branch.tensors())
        return merged

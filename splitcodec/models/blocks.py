"""The convolution block all transforms are made of: depthwise 5x5, then a pointwise pair, both residual.

One low resolution and depthwise/pointwise layers keep the edge's cost in memory traffic low (DCVC-RT/UF; see
docs/training.md). LeakyReLU, because every engine runs it and no engine reorders it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1


def activate(x: Tensor) -> Tensor:
    """LeakyReLU with the one slope used everywhere."""
    return F.leaky_relu(x, SLOPE)


class DepthwiseBlock(nn.Module):
    """x (N, C, h, w) -> same shape; C*(25 + 2*expansion*C) multiplications per position."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.expand = nn.Conv2d(channels, expansion * channels, 1)
        self.project = nn.Conv2d(expansion * channels, channels, 1)
        with torch.no_grad():
            self.project.weight.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(activate(self.expand(self.depthwise(x))))


def blocks(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks of the same width."""
    return nn.Sequential(*(DepthwiseBlock(channels) for _ in range(count)))

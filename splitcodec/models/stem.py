"""The stem: a YOLOX CSPDarknet's layers in front of 1/8 of the picture, which g_a begins with.

A head that has to imitate a teacher's feature spends its capacity on the imitation (measured: 0.4 of the
feature's variance stayed unexplained without any rounding); one that starts as the teacher's own layers only
has to code the feature. Inner names are those of the teacher's file, so its weights load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOCUS = 2  # the first convolution reads 2x2 pixels at a time
ENTER_SHARE = 4  # it has a quarter of the stem's channels
BLACK = -1.0  # the detector pads its pixels with 0, which is -1 in the codec's range


class ConvSiLU(nn.Sequential):
    """Convolution with "same" padding, or none, then SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, same: bool = True
    ) -> None:
        padding = kernel // 2 if same else 0
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups), nn.SiLU())


class DepthwiseConv(nn.Module):
    """Depthwise 3x3, then pointwise, SiLU after each."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = ConvSiLU(inputs, inputs, 3, stride, groups=inputs)
        self.pconv = ConvSiLU(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    """Residual 1x1 and depthwise 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvSiLU(channels, channels)
        self.conv2 = DepthwiseConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class CrossStage(nn.Module):
    """Half of the channels through `count` bottlenecks, half past them."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvSiLU(channels, half)
        self.conv2 = ConvSiLU(channels, half)
        self.conv3 = ConvSiLU(channels, channels)
        self.bottlenecks = nn.Sequential(*(Bottleneck(half) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.bottlenecks(self.conv1(x)), self.conv2(x)], dim=1))


class Stem(nn.Module):
    """x (N, 3, H, W), RGB in [-1, 1] -> stem feature (N, channels, H/8, W/8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = channels // ENTER_SHARE
        self.enter = ConvSiLU(3 * FOCUS * FOCUS, first, 3, same=False)
        self.down2 = DepthwiseConv(first, 2 * first, 2)
        self.stage2 = CrossStage(2 * first, 1)
        self.down3 = DepthwiseConv(2 * first, channels, 2)
        self.stage3 = CrossStage(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.pixel_unshuffle(x, FOCUS), (1, 1, 1, 1), value=BLACK)
        return self.stage3(self.down3(self.stage2(self.down2(self.enter(x)))))

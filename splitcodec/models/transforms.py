"""The transforms g_a, h_a and g_s of the universal codec, and the extractor.

h_s lives in exact.py (scales) and context.py (means). g_a and g_s are a linear path beside a residual one
whose last layer starts at zero: set to the principal components of a detector's feature (training/start.py),
they detect before the first step of training. Mean-scale hyperprior layout as in Parallel Task-Prompts ICM
(Shen & Liu, section 3).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.blocks import DepthwiseBlock, activate, blocks
from splitcodec.models.sizes import CodecSizes
from splitcodec.models.stem import Stem

PATCH = 8  # pixel-unshuffle factor of what g_a sees of the pixels beside the stem's feature


def zero_start(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weight and bias set to zero: a residual path that does nothing yet."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class Analysed(NamedTuple):
    """What g_a gives for a picture, before prompt and gain.

    latent: (N, Cy, H/16, W/16); stem: (N, stem_channels, H/8, W/8); trunk: (N, trunk_channels, H/16, W/16).
    The prompt `g_a` reads the stem's feature, the prompt `select` the trunk.
    """

    latent: Tensor
    stem: Tensor
    trunk: Tensor


class Analysis(nn.Module):
    """g_a: x (N, 3, H, W), RGB in [-1, 1], H and W multiples of 32 -> Analysed."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        stem, trunk, pixels = sizes.stem_channels, sizes.trunk_channels, sizes.pixel_channels
        self.stem = Stem(stem)
        self.lin = nn.Conv2d(stem, sizes.latent_channels, 2, stride=2)
        self.pix = nn.Conv2d(3 * PATCH * PATCH, pixels, 1)
        self.down = nn.Conv2d(stem + pixels, trunk, 2, stride=2)
        self.coarse = blocks(trunk, sizes.trunk_blocks)
        self.out = zero_start(nn.Conv2d(trunk, sizes.latent_channels, 1))

    def forward(self, x: Tensor) -> Analysed:
        stem = self.stem(x)
        pixels = self.pix(F.pixel_unshuffle(x, PATCH))
        trunk = self.coarse(self.down(torch.cat([stem, pixels], dim=1)))
        return Analysed(self.lin(stem) + self.out(trunk), stem, trunk)


class HyperAnalysis(nn.Module):
    """h_a: latent after its gain (N, Cy, h, w) -> hyper-latent (N, Cz, ceil(h/4), ceil(w/4)), unrounded."""

    def __init__(self, sizes: CodecSizes, width: int = 64) -> None:
        super().__init__()
        self.enter = nn.Conv2d(sizes.latent_channels, width, 1)
        self.down1 = nn.Conv2d(width, width, 5, stride=2, padding=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.down2 = nn.Conv2d(width, width, 5, stride=2, padding=2, groups=width)
        self.out = nn.Conv2d(width, sizes.hyper_channels, 1)

    def forward(self, y: Tensor) -> Tensor:
        x = activate(self.down1(activate(self.enter(y))))
        return self.out(activate(self.down2(activate(self.mix(x)))))


class Synthesis(nn.Module):
    """g_s: decoded latent without gain (N, Cy, h, w) -> feature h^ (N, Ch, 2h, 2w) at 1/8 of the picture."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        coarse, fine = sizes.decoder_channels
        self.lin = nn.Conv2d(sizes.latent_channels, 4 * sizes.feature_channels, 1)
        self.enter = nn.Conv2d(sizes.latent_channels, coarse, 1)
        self.coarse = blocks(coarse, sizes.decoder_blocks[0])
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = blocks(fine, sizes.decoder_blocks[1])
        self.out = zero_start(nn.Conv2d(fine, sizes.feature_channels, 1))

    def forward(self, y_hat: Tensor) -> Tensor:
        x = self.up(self.coarse(self.enter(y_hat)))
        return F.pixel_shuffle(self.lin(y_hat), 2) + self.out(self.fine(F.pixel_shuffle(x, 2)))


class ImageExtractor(nn.Module):
    """Stage 1's extractor: four convolutions, h^ (N, Ch, H/8, W/8) -> picture (N, 3, H, W)."""

    def __init__(self, feature_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(feature_channels, 256, 1)
        self.conv1 = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.conv2 = nn.Conv2d(64, 48, 1)
        self.conv3 = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        x = activate(F.pixel_shuffle(self.conv0(feature), 2))
        x = self.conv2(activate(self.conv1(x)))
        return self.conv3(F.pixel_shuffle(x, 4))


class FeatureAdapter(nn.Module):
    """Per task: h^ (N, Ch, h, w) -> the teacher's split tensor (N, Ct, 8h/stride, 8w/stride)."""

    def __init__(self, feature_channels: int, teacher_channels: int, teacher_stride: int = PATCH) -> None:
        super().__init__()
        self.up = PATCH // teacher_stride  # 1, or 2 for a teacher split at 1/4 of the picture
        self.mix = DepthwiseBlock(feature_channels)
        zero_start(self.mix.project)
        self.out = nn.Conv2d(feature_channels, teacher_channels * self.up**2, 1)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.out(self.mix(feature))
        return F.pixel_shuffle(x, self.up) if self.up > 1 else x

"""The transforms g_a, h_a and g_s of the universal codec, and the extractor.

h_s lives in exact.py (scales) and context.py (means).

Sources: mean-scale hyperprior layout as in Parallel Task-Prompts ICM (Shen & Liu, section 3). g_a either
begins with a detector's own layers (front.py) or with pixel-unshuffle 8 and depthwise blocks as in DCVC-UF.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.blocks import DepthwiseBlock, activate, blocks
from splitcodec.models.front import DarknetFront
from splitcodec.models.sizes import CodecSizes

PATCH = 8  # pixel-unshuffle factor of the stem


class PatchAnalysis(nn.Module):
    """g_a on 8x8 patches: image (N, 3, H, W) in [0, 2] -> latent (N, Cy, H/16, W/16), before its gain."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        fine, coarse = sizes.head_channels
        self.stem = nn.Conv2d(3 * PATCH * PATCH, fine, 1)
        self.fine = blocks(fine, sizes.head_blocks[0])
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.coarse = blocks(coarse, sizes.head_blocks[1])
        self.out = nn.Conv2d(coarse, sizes.latent_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.fine(self.stem(F.pixel_unshuffle(image - 1.0, PATCH)))
        return self.out(self.coarse(self.down(x)))


class DarknetAnalysis(nn.Module):
    """g_a behind a detector's first layers; shapes as in PatchAnalysis.

    `down` can start as the principal components of the feature (training/start.py).
    """

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        fine, coarse = sizes.head_channels
        self.front = DarknetFront(fine)
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.coarse = nn.Sequential(
            *(DepthwiseBlock(coarse, expansion=1) for _ in range(sizes.head_blocks[1]))
        )
        self.out = nn.Conv2d(coarse, sizes.latent_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.coarse(self.down(self.front(image))))


def new_analysis(sizes: CodecSizes) -> PatchAnalysis | DarknetAnalysis:
    """g_a of the form the sizes name."""
    return PatchAnalysis(sizes) if sizes.head == "patch" else DarknetAnalysis(sizes)


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
        self.enter = nn.Conv2d(sizes.latent_channels, coarse, 1)
        self.coarse = blocks(coarse, sizes.decoder_blocks[0])
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = blocks(fine, sizes.decoder_blocks[1])
        self.out = nn.Conv2d(fine, sizes.feature_channels, 1)

    def forward(self, y_hat: Tensor) -> Tensor:
        x = self.coarse(self.enter(y_hat))
        return self.out(self.fine(F.pixel_shuffle(self.up(x), 2)))


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
        self.mix = blocks(feature_channels, 1)
        self.out = nn.Conv2d(feature_channels, teacher_channels * self.up**2, 1)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.out(self.mix(feature))
        return F.pixel_shuffle(x, self.up) if self.up > 1 else x

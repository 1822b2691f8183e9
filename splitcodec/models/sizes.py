"""The only place with sizes: one frozen value object per codec that can be built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Context = Literal["four-step", "quadrants", "mean-scale"]


@dataclass(frozen=True)
class CodecSizes:
    """Channel counts of one codec. Strides are fixed: feature 1/8, latent y 1/16, hyper-latent z 1/64."""

    name: str
    latent_channels: int = 96  # y
    hyper_channels: int = 32  # z
    feature_channels: int = 96  # h^, what the task tails read
    stem_channels: int = 64  # g_a's stem at 1/8, the width of the detector it starts from
    pixel_channels: int = 32  # what g_a keeps of the pixels themselves at 1/8
    trunk_channels: int = 128  # g_a's residual path at 1/16
    trunk_blocks: int = 2
    importance_maps: int = 12  # of the information selector, each for as many neighbouring latent channels
    decoder_channels: tuple[int, int] = (160, 96)  # g_s at 1/16 and at 1/8
    decoder_blocks: tuple[int, int] = (3, 3)
    mean_channels: int = 192  # mean support at 1/32
    context_channels: int = 128
    lrcp: bool = True  # predict what rounding took from y (lrcp.py); off in an ablation
    context: Context = "four-step"  # reference_context.py has the others
    rate_points: int = 4


NANO = CodecSizes("nano")
BASE = CodecSizes(
    "base",
    latent_channels=128,
    trunk_channels=320,
    trunk_blocks=4,
    importance_maps=16,
    decoder_channels=(256, 160),
    decoder_blocks=(4, 4),
    mean_channels=256,
    context_channels=192,
)
NANO_WITHOUT_LRCP = replace(NANO, name="nano-without-lrcp", lrcp=False)
NANO_QUADRANTS = replace(NANO, name="nano-quadrants", context="quadrants")
NANO_MEAN_SCALE = replace(NANO, name="nano-mean-scale", context="mean-scale")
SIZES = {sizes.name: sizes for sizes in (NANO, BASE, NANO_WITHOUT_LRCP, NANO_QUADRANTS, NANO_MEAN_SCALE)}

"""The universal feature codec in torch: transforms, gains, prompts and entropy models, put together once.

x -> g_a (+prompt) * importance * gain -> y ; y -> h_a (+prompt) * gain -> z ; z -> exact scale branch ->
sigma ; z -> mean support -> context -> means ; y_hat -> LRCP -> / gain -> g_s (+prompt) -> h^.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitcodec.entropy import SIGMA_LEVELS, SIGMA_MAX, SIGMA_MIN, Z_MAX
from splitcodec.models.context import MeanSupport, SpatialChannelContext
from splitcodec.models.exact import ScaleBranch, ste_round
from splitcodec.models.lrcp import ResidualPrediction
from splitcodec.models.prompts import PromptBranch, TaskPrompt, prompt_layout
from splitcodec.models.reference_context import MeanScaleContext, QuadrantContext
from splitcodec.models.sizes import CodecSizes
from splitcodec.models.transforms import Analysis, HyperAnalysis, Synthesis

SIGMA_STEP = math.log(SIGMA_MAX / SIGMA_MIN) / (SIGMA_LEVELS - 1)
MIN_LIKELIHOOD = 1e-9
LOG_GAINS = (-0.4, 1.4)  # of the smallest and the largest rate, for a latent of unit variance


@dataclass(frozen=True)
class CodedFeature:
    """One forward pass: feature (N, Ch, H/8, W/8), and bits per sample of y and z (N,)."""

    feature: Tensor
    y_bits: Tensor
    z_bits: Tensor

    @property
    def bits(self) -> Tensor:
        return self.y_bits + self.z_bits


class RateGains(nn.Module):
    """K rate points: per-channel gains of y and z, and a shift of the sigma index (Cui et al.)."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        points = sizes.rate_points
        start = torch.linspace(*LOG_GAINS, points)[:, None]
        self.log_gain_y = nn.Parameter(start.repeat(1, sizes.latent_channels))
        self.log_gain_z = nn.Parameter(torch.zeros(points, sizes.hyper_channels))
        self.index_shift = nn.Parameter(torch.zeros(points, sizes.latent_channels))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rate point per sample (N,) int64 -> gain_y, gain_z, index shift, each (N, C, 1, 1)."""
        return (
            self.log_gain_y[points].exp()[:, :, None, None],
            self.log_gain_z[points].exp()[:, :, None, None],
            self.index_shift[points][:, :, None, None],
        )


def new_context(sizes: CodecSizes) -> SpatialChannelContext | QuadrantContext:
    """The context of the form the sizes name."""
    if sizes.context == "quadrants":
        return QuadrantContext(sizes)
    return MeanScaleContext(sizes) if sizes.context == "mean-scale" else SpatialChannelContext(sizes)


class FeatureCodec(nn.Module):
    """The shared codec. Task prompts and rate gains are handed in with each call."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.g_a = Analysis(sizes)
        self.h_a = HyperAnalysis(sizes)
        self.scale = ScaleBranch(sizes)
        self.mean = MeanSupport(sizes)
        self.context = new_context(sizes)
        self.lrcp = ResidualPrediction(sizes) if sizes.lrcp else None
        self.g_s = Synthesis(sizes)
        layout = prompt_layout(sizes)
        self.layout = layout
        # A plain dict: only the branches' arithmetic is used, the tensors come with the call.
        self.bend = {group: PromptBranch(group, convs) for group, convs in layout.items()}
        share = sizes.latent_channels // sizes.importance_maps
        self.register_buffer("map_of", torch.arange(sizes.latent_channels) // share, persistent=False)

    def head(self, image: Tensor, gain_y: Tensor, prompt: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """image (N, 3, H, W), RGB 0..255 -> y (N, Cy, H/16, W/16), and its importance maps.

        y is multiplied by its gain and its maps (N, maps, H/16, W/16), in (0, 2): the information selector of
        Prompt-ICM, which steers bits over the picture. The maps are never sent and the decoder does not know
        them. A prompt whose last convolutions are zero gives maps of 1 and leaves y as g_a gave it.
        """
        seen = self.g_a(image * (1.0 / 127.5) - 1.0)
        latent = seen.latent + self.bend["g_a"].run(seen.stem, prompt)
        importance = 2.0 * torch.sigmoid(self.bend["select"].run(seen.trunk, prompt))
        return latent * importance.index_select(1, self.map_of) * gain_y, importance

    def hyper(self, y: Tensor, gain_z: Tensor, prompt: Mapping[str, Tensor]) -> Tensor:
        """y -> z (N, Cz, ceil(h/4), ceil(w/4)) before rounding, clamped to the tables' support."""
        z = (self.h_a(y) + self.bend["h_a"].run(y, prompt)) * gain_z
        return torch.clamp(z, -Z_MAX, Z_MAX)

    def support(
        self, z_symbols: Tensor, gain_z_inv: Tensor, prompt: Mapping[str, Tensor], y: Tensor
    ) -> Tensor:
        """z symbols -> mean support at half the latent's size; y gives that size."""
        half = y[:, :, ::2, ::2]
        return self.mean(z_symbols * gain_z_inv, self.bend["h_s_mean"], prompt, half)

    def reconstruct(
        self, symbols: Tensor, means: Tensor, gain_y_inv: Tensor, prompt: Mapping[str, Tensor]
    ) -> Tensor:
        """symbols, means (N, Cy, h, w) -> feature (N, Ch, 2h, 2w)."""
        return self.synthesize(symbols + means, means, gain_y_inv, prompt)

    def synthesize(
        self, y_hat: Tensor, means: Tensor, gain_y_inv: Tensor, prompt: Mapping[str, Tensor]
    ) -> Tensor:
        """Latent with gain, means (N, Cy, h, w) -> feature (N, Ch, 2h, 2w)."""
        if self.lrcp is not None:
            y_hat = y_hat + self.lrcp(means, y_hat)
        y_hat = y_hat * gain_y_inv
        return self.g_s(y_hat) + self.bend["g_s"].run(y_hat, prompt)

    def forward(
        self,
        image: Tensor,
        points: Tensor,
        gains: RateGains,
        prompt: TaskPrompt,
        hyper_prior: HyperPrior,
        soft: bool = False,
    ) -> CodedFeature:
        """Training pass: rates with additive noise, the decoder with straight-through rounding.

        soft: y reaches the decoder with uniform noise instead, so that a channel too quiet to be rounded to
        anything but zero still gets a true gradient.
        """
        tensors = prompt.tensors()
        gain_y, gain_z, index_shift = gains(points)
        y, _ = self.head(image, gain_y, tensors)
        z = self.hyper(y, gain_z, tensors)
        z_bits = hyper_prior(z + torch.rand_like(z) - 0.5, points)
        z_symbols = ste_round(z)
        index = self.scale(z_symbols, tensors, self.layout["h_s_scale"])
        index = torch.clamp(index[:, :, : y.shape[2], : y.shape[3]] + index_shift, 0.0, SIGMA_LEVELS - 1.0)
        support = self.support(z_symbols, 1.0 / gain_z, tensors, y)
        symbols, means = self.context.quantize(y, support, soft=soft)
        if isinstance(self.context, MeanScaleContext):
            index = index + self.context.index_moves(symbols + means, support)
            index = torch.clamp(index, 0.0, SIGMA_LEVELS - 1.0)
        noisy = y - means + torch.rand_like(y) - 0.5
        feature = self.reconstruct(symbols, means, 1.0 / gain_y, tensors)
        return CodedFeature(feature, gaussian_bits(noisy, index), z_bits)


class HyperPrior(nn.Module):
    """Factorised density of z, one per rate point: compressai's EntropyBottleneck.

    Evaluated at integers at export.
    """

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        from compressai.entropy_models import (
            EntropyBottleneck,  # not importable beside a CPU-only torchvision
        )

        self.models = nn.ModuleList(
            [EntropyBottleneck(sizes.hyper_channels, init_scale=6) for _ in range(sizes.rate_points)]
        )
        for model in self.models:
            model.quantiles.requires_grad_(False)  # medians are unused: z is rounded to plain integers

    def likelihood(self, z: Tensor, point: int) -> Tensor:
        """z (N, Cz, h, w) -> probability mass of [z-1/2, z+1/2] at one rate point, same shape."""
        n, c, h, w = z.shape
        flat = z.permute(1, 0, 2, 3).reshape(c, 1, -1)
        mass, _, _ = self.models[point]._likelihood(flat)
        return mass.reshape(c, n, h, w).permute(1, 0, 2, 3)

    def forward(self, z: Tensor, points: Tensor) -> Tensor:
        """z (N, Cz, h, w), noisy -> bits (N,). Samples in rate order: N/K of each point, lowest first."""
        share = z.shape[0] // len(self.models)
        masses = [self.likelihood(z[k * share : (k + 1) * share], k) for k in range(len(self.models))]
        mass = torch.cat(masses).clamp_min(MIN_LIKELIHOOD)
        return -torch.log2(mass).sum(dim=(1, 2, 3))


def gaussian_bits(residual: Tensor, index: Tensor) -> Tensor:
    """residual y - mean + noise and continuous sigma index (N, Cy, h, w) -> bits (N,)."""
    inverse = torch.exp(index * -SIGMA_STEP) * (1.0 / SIGMA_MIN)
    size = residual.abs()
    upper, lower = (0.5 - size) * inverse, (-0.5 - size) * inverse
    mass = 0.5 * (torch.erf(upper * math.sqrt(0.5)) - torch.erf(lower * math.sqrt(0.5)))
    return -torch.log2(mass.clamp_min(MIN_LIKELIHOOD)).sum(dim=(1, 2, 3))

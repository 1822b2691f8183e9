"""Means of the latent: hyper mean support plus the four-step spatial-channel context.

This is the production form of the paper's SC-AR FCM.

The latent is seen in polyphase form, (N, 4Cy, h/2, w/2): channel c*4+p is channel c at position p of each 2x2
cell. Step i decodes, of channel quarter q, position (q + i) mod 4: every step touches every quarter at
another place, so later steps see both spatial neighbours and other channels. The context refines means only;
scales come from the exact branch, hence all symbols decode in one rANS call and a small float difference
moves y_hat by no more than itself.

Sources: Shen & Liu section 3.2 (spatial-channel order), four steps as in DCVC-RT/UF; the 24-step form is
slower and couples distant quadrants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.blocks import activate
from splitcodec.models.exact import ste_round
from splitcodec.models.prompts import PromptBranch
from splitcodec.models.sizes import CodecSizes

STEPS = 4
SymbolOf = Callable[[Tensor, Tensor], Tensor]  # a step's polyphase channels and means -> its symbols


@dataclass(frozen=True)
class HeldCells:
    """Cells (2x2 latent positions) that keep an earlier frame's latent.

    cells: (N, 1, h/2, w/2), 1 where held, else 0; latent: (N, Cy, h, w), y_hat with gain.
    """

    cells: Tensor
    latent: Tensor


@dataclass(frozen=True)
class ContextSteps:
    """What the steps gave: symbols, means and the latent y_hat with gain, each (N, Cy, h, w)."""

    symbols: Tensor
    means: Tensor
    latent: Tensor


def step_channels(latent_channels: int) -> list[list[int]]:
    """For each step the polyphase channels it decodes, in order of latent channel."""
    quarter = latent_channels // STEPS
    return [[c * 4 + (c // quarter + i) % 4 for c in range(latent_channels)] for i in range(STEPS)]


class MeanSupport(nn.Module):
    """h_s, mean path: z_hat (N, Cz, hz, wz) -> support (N, M, h/2, w/2), cropped to half the latent."""

    def __init__(self, sizes: CodecSizes, width: int = 96) -> None:
        super().__init__()
        self.enter = nn.Conv2d(sizes.hyper_channels, width, 3, padding=1)
        self.up = nn.Conv2d(width, 4 * width, 1)
        self.out = nn.Conv2d(width, sizes.mean_channels, 3, padding=1)

    def forward(
        self, z_hat: Tensor, branch: PromptBranch, prompt: Mapping[str, Tensor], like: Tensor
    ) -> Tensor:
        x = activate(F.pixel_shuffle(self.up(activate(self.enter(z_hat))), 2))
        x = self.out(x) + branch.run(z_hat, prompt)
        return x[:, :, : like.shape[2], : like.shape[3]]


class StepMean(nn.Module):
    """Means of one step from the support and the positions decoded so far."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 1)
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.out = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(activate(self.near(activate(self.enter(x)))))


class SpatialChannelContext(nn.Module):
    """Four parallel steps; each adds its symbols and means to what the next ones may look at."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        y, support = sizes.latent_channels, sizes.mean_channels
        self.steps = nn.ModuleList(
            [
                StepMean(support if i == 0 else support + 4 * y, sizes.context_channels, y)
                for i in range(STEPS)
            ]
        )
        order = step_channels(y)
        flat = [channel for channels in order for channel in channels]
        for i, channels in enumerate(order):
            self.register_buffer(f"channels{i}", torch.tensor(channels), persistent=False)
        self.register_buffer("polyphase", torch.tensor(flat).argsort(), persistent=False)

    def _fold(self, steps: list[Tensor]) -> Tensor:
        """What steps 0..i gave, each (N, Cy, h/2, w/2) -> polyphase order; later steps' places are zero."""
        missing = [torch.zeros_like(steps[0])] * (STEPS - len(steps))
        return torch.cat([*steps, *missing], dim=1).index_select(1, self.polyphase)

    def _mean(self, step: int, support: Tensor, decoded: list[Tensor]) -> Tensor:
        inputs = support if step == 0 else torch.cat([support, self._fold(decoded)], dim=1)
        return self.steps[step](inputs)

    def quantize(
        self, y: Tensor, support: Tensor, limit: Tensor | None = None, soft: bool = False
    ) -> tuple[Tensor, Tensor]:
        """y, support, symbol limit (N, Cy, h, w) -> symbols, means, both (N, Cy, h, w).

        Rounds straight through, or adds uniform noise if `soft` (training only).
        """
        steps = self._run(support, _rounding(y, limit, soft))
        return steps.symbols, steps.means

    def dequantize(self, symbols: Tensor, support: Tensor) -> Tensor:
        """symbols (N, Cy, h, w) -> means, same shape; y_hat is their sum."""
        return self._run(support, _given(symbols)).means

    def quantize_held(self, y: Tensor, support: Tensor, limit: Tensor, held: HeldCells) -> ContextSteps:
        """`quantize` where the held cells keep their latent: their symbols are 0."""
        return self._run(support, _rounding(y, limit, False), held)

    def dequantize_held(self, symbols: Tensor, support: Tensor, held: HeldCells) -> ContextSteps:
        """`dequantize` where the held cells keep their latent."""
        return self._run(support, _given(symbols), held)

    def _run(self, support: Tensor, symbol_of: SymbolOf, held: HeldCells | None = None) -> ContextSteps:
        """The four steps; what later ones look at is the kept latent where a cell is held."""
        kept = None if held is None else F.pixel_unshuffle(held.latent, 2)
        symbols: list[Tensor] = []
        means: list[Tensor] = []
        decoded: list[Tensor] = []
        for i in range(STEPS):
            channels = getattr(self, f"channels{i}")
            mean = self._mean(i, support, decoded)
            symbol = symbol_of(channels, mean)
            value = symbol + mean
            if held is not None and kept is not None:
                symbol = symbol * (1.0 - held.cells)
                value = torch.where(held.cells > 0.5, kept.index_select(1, channels), value)
            symbols.append(symbol)
            means.append(mean)
            decoded.append(value)
        return ContextSteps(*(F.pixel_shuffle(self._fold(parts), 2) for parts in (symbols, means, decoded)))


def _rounding(y: Tensor, limit: Tensor | None, soft: bool) -> SymbolOf:
    folded = F.pixel_unshuffle(y, 2)
    bound = None if limit is None else F.pixel_unshuffle(limit, 2)

    def symbol_of(channels: Tensor, mean: Tensor) -> Tensor:
        residual = folded.index_select(1, channels) - mean
        symbol = residual + torch.rand_like(residual) - 0.5 if soft else ste_round(residual)
        if bound is None:
            return symbol
        edge = bound.index_select(1, channels)
        return torch.minimum(torch.maximum(symbol, -edge), edge)

    return symbol_of


def _given(symbols: Tensor) -> SymbolOf:
    folded = F.pixel_unshuffle(symbols, 2)
    return lambda channels, _: folded.index_select(1, channels)

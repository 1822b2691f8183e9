"""Reference forms of the latent's context, for ablations; what ships is context.SpatialChannelContext.

`QuadrantContext` has the order of the paper's code (SC-AR FCM, 24 steps): six channel slices times the four
quadrants of the latent, channels first, then the quadrants in zigzag. One quadrant helps to predict the next,
although their positions are far apart, and 24 networks run one after the other.

`MeanScaleContext` is the four-step form whose steps also move the sigma index, as in the paper. Its scales
are floats, on which no two machines need agree to the last bit: it measures likelihoods in training, cannot
be exported, and is no part of a pack.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.context import STEPS, SpatialChannelContext, StepMean
from splitcodec.models.exact import INDEX_UNIT, ste_round
from splitcodec.models.sizes import CodecSizes

SLICES = 6
QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))
MAX_SUPPORT = 12  # decoded parts a step looks back on
PART_WIDTHS = (3.5, 2.75, 2.0, 1.0)  # 224, 176, 128, 64 channels for the paper's slices of 64


class PartMean(nn.Sequential):
    """Means of one part: five 3x3 convolutions, as in the paper's code."""

    def __init__(self, inputs: int, part: int) -> None:
        widths = [inputs, *(max(8, int(part * share)) for share in PART_WIDTHS), part]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GELU()]
        super().__init__(*layers[:-1])


class QuadrantContext(nn.Module):
    """24 steps; arguments and results as in SpatialChannelContext. Latent height and width must be even."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        y = sizes.latent_channels
        if y % SLICES:
            raise ValueError(f"{y} latent channels are not a multiple of {SLICES} slices")
        self.part = y // SLICES
        self.spread = nn.Conv2d(sizes.mean_channels, 4 * y, 1)  # half size -> the latent's grid
        self.steps = nn.ModuleList(
            [PartMean(4 * y + min(i, MAX_SUPPORT) * self.part, self.part) for i in range(SLICES * STEPS)]
        )

    def _parts(self, latent: Tensor) -> list[Tensor]:
        """(N, Cy, h, w) -> 24 parts (N, Cy/6, h/2, w/2) in decoding order: all slices of a quadrant first."""
        rows, columns = latent.shape[2] // 2, latent.shape[3] // 2
        return [
            latent[
                :,
                k * self.part : (k + 1) * self.part,
                i * rows : (i + 1) * rows,
                j * columns : (j + 1) * columns,
            ]
            for i, j in QUADRANTS
            for k in range(SLICES)
        ]

    def _join(self, parts: list[Tensor]) -> Tensor:
        """Inverse of _parts."""
        whole = [torch.cat(parts[q * SLICES : (q + 1) * SLICES], dim=1) for q in range(STEPS)]
        return torch.cat([torch.cat(whole[:2], dim=3), torch.cat(whole[2:], dim=3)], dim=2)

    def _hints(self, support: Tensor) -> Tensor:
        """Every part's share of the hyper support, side by side: what each step may look at."""
        return torch.cat(self._parts(F.pixel_shuffle(self.spread(support), 2)), dim=1)

    def quantize(
        self, y: Tensor, support: Tensor, limit: Tensor | None = None, soft: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See SpatialChannelContext.quantize."""
        hints, bounds = self._hints(support), None if limit is None else self._parts(limit)
        symbols: list[Tensor] = []
        means: list[Tensor] = []
        decoded: list[Tensor] = []
        for i, value in enumerate(self._parts(y)):
            mean = self.steps[i](torch.cat([hints, *decoded[-MAX_SUPPORT:]], dim=1))
            residual = value - mean
            symbol = residual + torch.rand_like(residual) - 0.5 if soft else ste_round(residual)
            if bounds is not None:
                symbol = torch.minimum(torch.maximum(symbol, -bounds[i]), bounds[i])
            symbols.append(symbol)
            means.append(mean)
            decoded.append(symbol + mean)
        return self._join(symbols), self._join(means)

    def dequantize(self, symbols: Tensor, support: Tensor) -> Tensor:
        """See SpatialChannelContext.dequantize."""
        hints = self._hints(support)
        means: list[Tensor] = []
        decoded: list[Tensor] = []
        for i, symbol in enumerate(self._parts(symbols)):
            means.append(self.steps[i](torch.cat([hints, *decoded[-MAX_SUPPORT:]], dim=1)))
            decoded.append(symbol + means[-1])
        return self._join(means)


class MeanScaleContext(SpatialChannelContext):
    """Four steps that give means and moves of the sigma index; for training alone."""

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__(sizes)
        y, support = sizes.latent_channels, sizes.mean_channels
        self.scales = nn.ModuleList(
            [
                StepMean(support if i == 0 else support + 4 * y, sizes.context_channels, y)
                for i in range(STEPS)
            ]
        )
        for step in self.scales:
            nn.init.zeros_(step.out.weight)
            nn.init.zeros_(step.out.bias)

    def index_moves(self, decoded: Tensor, support: Tensor) -> Tensor:
        """What was decoded (symbols + means), (N, Cy, h, w) -> moves of the sigma index, same shape.

        Each step's come from the positions decoded before it alone.
        """
        folded = F.pixel_unshuffle(decoded, 2)
        before: list[Tensor] = []
        moves: list[Tensor] = []
        for i, step in enumerate(self.scales):
            inputs = support if i == 0 else torch.cat([support, self._fold(before)], dim=1)
            moves.append(step(inputs) * INDEX_UNIT)
            before.append(folded.index_select(1, getattr(self, f"channels{i}")))
        return F.pixel_shuffle(self._fold(moves), 2)

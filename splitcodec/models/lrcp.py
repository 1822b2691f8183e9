"""Latent residual cross-attention prediction: what rounding took from y, guessed from its surroundings.

Q comes from the mean support, K and V from the decoded latent; every position attends to its 3x3
neighbourhood, so any picture size works without windows or padding rules. Then 0.5*tanh, because a rounding
residual lies in [-0.5, 0.5] (Minnen & Singh 2020). The last layer starts at zero. Decoder only: it never
touches what the entropy coder needs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.models.sizes import CodecSizes

NEIGHBOURS = [(i, j) for i in range(3) for j in range(3)]


class ResidualPrediction(nn.Module):
    """means, y_hat (N, Cy, h, w) -> predicted residual, same shape, in [-0.5, 0.5]."""

    def __init__(self, sizes: CodecSizes, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv2d(sizes.latent_channels, width, 1)
        self.key = nn.Conv2d(sizes.latent_channels, width, 1)
        self.value = nn.Conv2d(sizes.latent_channels, width, 1)
        self.out = nn.Conv2d(width, sizes.latent_channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        sums = torch.zeros(heads, width)
        for head in range(heads):
            sums[head, head * (width // heads) : (head + 1) * (width // heads)] = (width // heads) ** -0.5
        self.register_buffer("sums", sums[:, :, None, None], persistent=False)
        self.register_buffer(
            "spread", (sums.t() > 0).float()[:, :, None, None].contiguous(), persistent=False
        )

    def forward(self, means: Tensor, y_hat: Tensor) -> Tensor:
        query = self.query(means)
        keys = _neighbourhood(self.key(y_hat))
        values = _neighbourhood(self.value(y_hat))
        # A score per head and neighbour; a 1x1 kernel sums a head, so no reshape depends on the size.
        scores = torch.stack([F.conv2d(query * key, self.sums) for key in keys])
        weights = torch.softmax(scores, dim=0)
        mixed = sum(F.conv2d(weights[i], self.spread) * value for i, value in enumerate(values))
        return 0.5 * torch.tanh(self.out(mixed))


def _neighbourhood(x: Tensor) -> list[Tensor]:
    """The nine shifts of x (N, C, h, w), zero outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    return [padded[:, :, i : (i - 2) or None, j : (j - 2) or None] for i, j in NEIGHBOURS]

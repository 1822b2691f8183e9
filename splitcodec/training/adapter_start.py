"""How the feature adapter of a new teacher starts: the linear map that fits best, in closed form.

Without it, stage 2 spends its first hundreds of steps on a 1x1 convolution that least squares solves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.models.transforms import FeatureAdapter

RIDGE = 1e-3  # of the mean squared input: keeps weights small where decoded channels hardly vary


@torch.no_grad()
def fit_adapter(adapter: FeatureAdapter, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Solve the adapter's last convolution in place.

    pairs: decoded features (N, Ch, h, w) and the teacher's split tensors (N, Ct, 8h/stride, 8w/stride).
    """
    gram: Tensor | None = None
    cross: Tensor | None = None
    for feature, target in pairs:
        x = adapter.mix(feature).permute(0, 2, 3, 1).flatten(0, 2).double()
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        cells = F.pixel_unshuffle(target, adapter.up) if adapter.up > 1 else target
        y = cells.permute(0, 2, 3, 1).flatten(0, 2).double()
        gram = x.T @ x if gram is None else gram + x.T @ x
        cross = x.T @ y if cross is None else cross + x.T @ y
    if gram is None or cross is None:
        raise TrainingError("there are no pairs to fit an adapter to; give at least one batch")
    damping = (RIDGE * gram.diagonal()[:-1].mean()).clamp_min(RIDGE)  # inputs may all be zero
    damped = gram.clone()
    damped.diagonal()[:-1] += damping  # the constant is not held back
    solution = torch.linalg.solve(damped, cross).T  # (Ct up^2, Ch + 1)
    adapter.out.weight.copy_(solution[:, :-1, None, None])
    adapter.out.bias.copy_(solution[:, -1])

"""Latent channels that never leave zero, brought back before a run goes on.

A channel whose values stay below half a quantiser step is always decoded as its mean: the decoder never
sees it move, so nothing teaches it to use the channel, and the rate term keeps it small. Such channels get
fresh rows in g_a's last layer, loud enough to be decoded at the highest rate, gains as at the start, and a
sigma index that fits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splitcodec.errors import TrainingError
from splitcodec.models.codec import SIGMA_MIN, SIGMA_STEP, FeatureCodec, RateGains
from splitcodec.models.prompts import TaskPrompt

DEAD_SHARE = 0.01  # a channel is dead if fewer of its symbols than this are not zero at the highest rate
LOUD = 2.0  # standard deviation of a revived channel at the highest rate, in quantiser steps


@torch.no_grad()
def revive_channels(codec: FeatureCodec, gains: RateGains, prompt: TaskPrompt, image: Tensor) -> int:
    """image (N, 3, H, W), RGB 0..255, some crops -> how many channels were revived, in place."""
    tensors = prompt.tensors()
    last = torch.full((image.shape[0],), codec.sizes.rate_points - 1, device=image.device)
    gain_y, gain_z, _ = gains(last)
    y = codec.head(image, gain_y, tensors)
    z = torch.round(codec.hyper(y, gain_z, tensors))
    symbols, _ = codec.context.quantize(y, codec.support(z, 1.0 / gain_z, tensors, y))
    dead = (symbols != 0).float().mean(dim=(0, 2, 3)) < DEAD_SHARE
    count = int(dead.sum())
    if count == 0:
        return 0
    fresh = RateGains(codec.sizes).to(image.device)
    gains.log_gain_y[:, dead] = fresh.log_gain_y[:, dead]
    out = codec.g_a.out
    out.weight[dead] = torch.randn_like(out.weight[dead])
    out.bias[dead] = 0.0
    gain_y, _, _ = gains(last)
    y = codec.head(image, gain_y, tensors)
    deviation = y.std(dim=(0, 2, 3))[dead]
    out.weight[dead] *= (LOUD / deviation)[:, None, None, None]
    out.bias[dead] = -(y.mean(dim=(0, 2, 3))[dead] * LOUD / deviation) / gain_y[0, dead, 0, 0]
    index = codec.scale(z, tensors, codec.layout["h_s_scale"]).mean(dim=(0, 2, 3))
    spread = LOUD * (gains.log_gain_y - gains.log_gain_y[-1:]).exp().clamp_min(SIGMA_MIN)
    wanted = (torch.log(spread / SIGMA_MIN) / SIGMA_STEP).clamp_min(0.0)
    gains.index_shift[:, dead] = (wanted - index[None])[:, dead]
    if not all(math.isfinite(float(value)) for value in out.bias):
        raise TrainingError("a revived channel has no finite scale; g_a gives constants on these crops")
    return count

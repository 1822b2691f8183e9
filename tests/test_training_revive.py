"""Dead latent channels come back: they carry symbols again, and living ones keep their weights."""

from __future__ import annotations

import pytest
import torch
from training_rig import THIRD_PARTY, tiny_parts

from splitcodec.training.revive import revive_channels

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)


def _activity(parts, image: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Share of symbols that are not zero at the highest rate, per channel."""
    tensors = parts.prompt.tensors()
    last = torch.full((image.shape[0],), parts.codec.sizes.rate_points - 1)
    with torch.no_grad():
        gain_y, gain_z, _ = parts.gains(last)
        y = parts.codec.head(image, gain_y, tensors)
        z = torch.round(parts.codec.hyper(y, gain_z, tensors))
        symbols, _ = parts.codec.context.quantize(y, parts.codec.support(z, 1.0 / gain_z, tensors, y))
    return (symbols != 0).float().mean(dim=(0, 2, 3))


def _without_means(parts) -> None:  # type: ignore[no-untyped-def]
    """A silent channel is decoded as its mean; with means at zero its symbols are zero too."""
    with torch.no_grad():
        for step in parts.codec.context.steps:
            step.out.weight.zero_()
            step.out.bias.zero_()


def test_silent_channels_carry_symbols_again_and_the_others_keep_their_weights() -> None:
    torch.manual_seed(0)
    parts = tiny_parts()
    image = torch.rand(4, 3, 128, 128) * 255.0
    out = parts.codec.g_a.out
    _without_means(parts)
    with torch.no_grad():
        out.weight.mul_(50.0)  # every channel is loud
        out.weight[:3] = 0.0  # but for three
        out.bias[:3] = 0.0
    before = out.weight.detach().clone()
    dead = _activity(parts, image) < 0.01
    assert dead[:3].all()
    count = revive_channels(parts.codec, parts.gains, parts.prompt, image)
    assert count == int(dead.sum())
    assert (_activity(parts, image)[dead] > 0.1).all()
    assert torch.equal(out.weight[~dead], before[~dead])
    assert not torch.equal(out.weight[dead], before[dead])


def test_a_codec_without_dead_channels_is_left_alone() -> None:
    torch.manual_seed(0)
    parts = tiny_parts()
    _without_means(parts)
    with torch.no_grad():
        parts.codec.g_a.out.weight.mul_(100.0)
    image = torch.rand(4, 3, 128, 128) * 255.0
    before = {name: value.clone() for name, value in parts.codec.state_dict().items()}
    assert revive_channels(parts.codec, parts.gains, parts.prompt, image) == 0
    assert all(torch.equal(value, before[name]) for name, value in parts.codec.state_dict().items())

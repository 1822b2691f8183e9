"""The four-step context and the residual prediction: order, causality, agreement of both sides, bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from training_rig import TINY

from splitcodec.models.codec import FeatureCodec
from splitcodec.models.context import STEPS, SpatialChannelContext, step_channels
from splitcodec.models.lrcp import ResidualPrediction
from splitcodec.models.sizes import NANO

Y = TINY.latent_channels


def setting(seed: int = 0, height: int = 6, width: int = 4) -> tuple[SpatialChannelContext, Tensor, Tensor]:
    """A context, a latent (2, Cy, height, width) and its mean support."""
    torch.manual_seed(seed)
    context = SpatialChannelContext(TINY).requires_grad_(False)
    return (
        context,
        torch.randn(2, Y, height, width) * 3,
        torch.randn(2, TINY.mean_channels, height // 2, width // 2),
    )


@pytest.mark.parametrize("channels", [Y, NANO.latent_channels])
def test_steps_cover_each_position_of_each_channel_once(channels: int) -> None:
    order = step_channels(channels)
    assert len(order) == STEPS
    assert sorted(channel for step in order for channel in step) == list(range(4 * channels))
    for step in order:
        assert [channel // 4 for channel in step] == list(range(channels)), "one place of every channel"
        places = [channel % 4 for channel in step]
        assert all(places.count(place) == channels // 4 for place in range(4)), "a quarter at every place"


def test_both_sides_have_the_same_means() -> None:
    context, y, support = setting()
    symbols, means = context.quantize(y, support)
    assert torch.equal(context.dequantize(symbols, support), means)
    assert torch.equal(symbols, symbols.round())
    assert (symbols + means - y).abs().max() <= 0.5 + 1e-5
    assert means.std() > 0.05, "random weights give means worth comparing"


def places_of(step: int) -> Tensor:
    """Mask (Cy, 2, 2) of what a step decodes in each 2x2 cell."""
    mask = torch.zeros(Y, 4, dtype=torch.bool)
    for channel in step_channels(Y)[step]:
        mask[channel // 4, channel % 4] = True
    return mask.reshape(Y, 2, 2)


@pytest.mark.parametrize("step", range(STEPS))
def test_step_looks_only_at_earlier_steps(step: int) -> None:
    context, y, support = setting()
    changed = y + places_of(step).repeat(1, 3, 2) * 40.0
    _, means = context.quantize(y, support)
    _, other = context.quantize(changed, support)
    for later in range(STEPS):
        mask = places_of(later).repeat(1, 3, 2)
        same = torch.equal(means[:, mask], other[:, mask])
        assert same == (later <= step), f"means of step {later} after a change in step {step}"


def test_symbols_stop_at_the_limit_and_the_means_follow() -> None:
    context, y, support = setting()
    limit = torch.randint(1, 4, y.shape).float()
    symbols, means = context.quantize(y * 10, support, limit)
    assert (symbols.abs() <= limit).all()
    assert (symbols.abs() == limit).any()
    assert torch.equal(context.dequantize(symbols, support), means), (
        "clipped symbols are what later steps see"
    )


def test_rounding_passes_gradients() -> None:
    context, y, support = setting()
    y.requires_grad_(True)
    symbols, means = context.quantize(y, support)
    (symbols + means).sum().backward()
    assert y.grad is not None
    assert (y.grad != 0).float().mean() > 0.99


def prediction(started: bool) -> ResidualPrediction:
    torch.manual_seed(4)
    lrcp = ResidualPrediction(TINY).requires_grad_(False)
    if not started:
        lrcp.out.weight.normal_(std=1.0)
        lrcp.out.bias.normal_()
    return lrcp


def test_residual_prediction_starts_at_zero() -> None:
    means, y_hat = torch.randn(2, 2, Y, 5, 6).unbind(0)
    assert torch.equal(prediction(started=True)(means, y_hat), torch.zeros(2, Y, 5, 6))


def test_residual_prediction_stays_within_half_a_step() -> None:
    means, y_hat = (torch.randn(2, 2, Y, 5, 6) * 100).unbind(0)
    residual = prediction(started=False)(means, y_hat)
    assert residual.abs().max() <= 0.5
    assert residual.abs().max() > 0.4


def test_residual_prediction_is_attention_over_the_3x3_neighbourhood() -> None:
    """The size-free arithmetic equals softmax(q.k / sqrt(d)) v per head, written the usual way."""
    lrcp, heads, width = prediction(started=False), 4, 64
    means, y_hat = torch.randn(2, 2, Y, 5, 6).unbind(0)

    def near(x: Tensor) -> Tensor:  # -> (N, heads, d, 9, positions)
        return F.unfold(x, 3, padding=1).reshape(2, heads, width // heads, 9, 30)

    query = lrcp.query(means).reshape(2, heads, width // heads, 1, 30)
    scores = (query * near(lrcp.key(y_hat))).sum(dim=2, keepdim=True) / (width // heads) ** 0.5
    mixed = (torch.softmax(scores, dim=3) * near(lrcp.value(y_hat))).sum(dim=3).reshape(2, width, 5, 6)
    assert torch.allclose(lrcp(means, y_hat), 0.5 * torch.tanh(lrcp.out(mixed)), atol=1e-5)


def test_encoder_and_decoder_of_the_codec_agree_at_any_size() -> None:
    torch.manual_seed(0)
    codec = FeatureCodec(TINY).requires_grad_(False)
    for h, w in ((2, 2), (4, 6), (26, 22)):
        y = torch.randn(1, Y, h, w) * 4
        z = torch.randint(-3, 4, (1, TINY.hyper_channels, -(-h // 4), -(-w // 4))).float()
        support = codec.mean(z, codec.bend["h_s_mean"], _zero_prompt(), y[:, :, ::2, ::2])
        symbols, means = codec.context.quantize(y, support)
        again = codec.mean(z, codec.bend["h_s_mean"], _zero_prompt(), symbols[:, :, ::2, ::2])
        assert torch.equal(codec.context.dequantize(symbols, again), means)
        assert symbols.shape == y.shape


def _zero_prompt() -> dict[str, Tensor]:
    from splitcodec.models.prompts import TaskPrompt

    return {name: value.detach() for name, value in TaskPrompt(TINY).tensors().items()}

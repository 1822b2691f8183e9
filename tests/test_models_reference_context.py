"""The reference forms of the context: order, causality, and the same numbers on both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_rig import THIRD_PARTY, TINY

from splitcodec.errors import TrainingError
from splitcodec.export.build import export_codec
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains, new_context
from splitcodec.models.context import SpatialChannelContext
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.reference_context import MeanScaleContext, QuadrantContext

SIZES = replace(TINY, latent_channels=12, mean_channels=6)
pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)


def latents() -> tuple[torch.Tensor, torch.Tensor]:
    """y (2, 12, 4, 8) and its support at half the size."""
    torch.manual_seed(2)
    return torch.randn(2, 12, 4, 8) * 3, torch.randn(2, 6, 2, 4)


def quadrants() -> QuadrantContext:
    torch.manual_seed(1)
    return QuadrantContext(SIZES)


def test_decoder_finds_the_encoders_means() -> None:
    context, (y, support) = quadrants(), latents()
    with torch.no_grad():
        symbols, means = context.quantize(y, support)
        again = context.dequantize(symbols, support)
    assert symbols.equal(symbols.round())
    assert torch.allclose(again, means, atol=1e-5)
    assert (symbols + means - y).abs().max() <= 0.5 + 1e-5
    assert len(context.steps) == 24


def test_limits_bound_the_symbols() -> None:
    context, (y, support) = quadrants(), latents()
    limit = torch.ones_like(y)
    limit[:, :, :2, :4] = 2.0
    with torch.no_grad():
        symbols, _ = context.quantize(y * 10, support, limit)
    assert (symbols.abs() <= limit).all()
    assert (symbols.abs() == limit).any()


def test_parts_are_decoded_slices_first_then_quadrants_in_zigzag() -> None:
    """A part's means depend on the twelve parts before it and on nothing decoded later."""
    context, (y, support) = quadrants(), latents()
    order = [
        (quadrant, slice(2 * k, 2 * k + 2))
        for quadrant in (
            (slice(0, 2), slice(0, 4)),
            (slice(0, 2), slice(4, 8)),
            (slice(2, 4), slice(0, 4)),
            (slice(2, 4), slice(4, 8)),
        )
        for k in range(6)
    ]
    with torch.no_grad():
        symbols, means = context.quantize(y, support)
        for i in (0, 5, 6, 23):
            changed = symbols.clone()
            (rows, columns), channels = order[i]
            changed[:, channels, rows, columns] += 1.0
            moved = context.dequantize(changed, support) != means
            for j, ((r, c), part) in enumerate(order):
                assert moved[:, part, r, c].any() == (i < j), (i, j)


def test_scales_of_a_step_come_from_earlier_steps_alone() -> None:
    torch.manual_seed(3)
    context, (y, support) = MeanScaleContext(SIZES), latents()
    with torch.no_grad():
        assert not context.index_moves(y, support).any(), "at the start the context moves nothing"
        for step in context.scales:
            torch.nn.init.normal_(step.out.weight)
        before = context.index_moves(y, support)
        changed = y.clone()
        changed[:, 0, 1::2, 1::2] += 1.0  # quarter 0 is decoded at position 3, the last, in step 3
        assert torch.equal(context.index_moves(changed, support), before)
        changed = y.clone()
        changed[:, 0, ::2, ::2] += 1.0  # and at position 0 in step 0
        moved = context.index_moves(changed, support) != before
    assert moved.any()
    assert not moved[:, 0, ::2, ::2].any()


@pytest.mark.parametrize("form", ["four-step", "quadrants", "mean-scale"])
def test_codec_trains_with_every_form(form: str) -> None:
    torch.manual_seed(4)
    sizes = replace(SIZES, context=form)
    codec, gains, prior = FeatureCodec(sizes), RateGains(sizes), HyperPrior(sizes)
    coded = codec(torch.rand(4, 3, 64, 64) * 255, torch.arange(4), gains, TaskPrompt(sizes), prior)
    (coded.bits.mean() + coded.feature.square().mean()).backward()
    lacking = [name for name, p in codec.context.named_parameters() if p.grad is None]
    assert lacking == []
    assert coded.feature.shape == (4, 8, 8, 8)
    assert isinstance(codec.context, SpatialChannelContext) == (form != "quadrants")


def test_form_that_is_not_exact_cannot_be_exported() -> None:
    with pytest.raises(TrainingError, match="floats differ between machines"):
        export_codec(FeatureCodec(replace(SIZES, context="mean-scale")), {})


def test_channels_that_do_not_split_into_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="8 latent channels are not a multiple of 6"):
        new_context(replace(TINY, context="quadrants"))

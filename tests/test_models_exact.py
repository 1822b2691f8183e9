"""The scale branch as trained: its grid, and how near its integer form stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_rig import THIRD_PARTY, TINY

from splitcodec.entropy import SIGMA_LEVELS, Z_MAX
from splitcodec.export.build import prompt_tensors
from splitcodec.export.graphs import ScaleGraph
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.exact import ACT_MAX, ACT_STEPS, act, ste_round
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import NANO, CodecSizes
from splitcodec.training.codec_run import build_parts

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)


def test_rounding_is_half_up_with_the_identity_as_gradient() -> None:
    x = torch.tensor([-1.5, -0.5, -0.2, 0.5, 1.49, 2.5], requires_grad=True)
    rounded = ste_round(x)
    assert rounded.tolist() == [-1.0, 0.0, 0.0, 1.0, 1.0, 3.0]
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0] * 6


def test_activations_lie_on_their_grid() -> None:
    x = act(torch.linspace(-3, 30, 997))
    assert torch.equal(x * ACT_STEPS, (x * ACT_STEPS).round())
    assert (x.min().item(), x.max().item()) == (0.0, ACT_MAX / ACT_STEPS)
    assert act(torch.tensor([0.03, 0.04])).tolist() == [0.0, 1 / 16]


def test_index_starts_near_sigma_one_and_follows_z() -> None:
    torch.manual_seed(0)
    codec, prompt = FeatureCodec(TINY), TaskPrompt(TINY).tensors()
    with torch.no_grad():
        quiet = codec.scale(torch.zeros(1, TINY.hyper_channels, 2, 3), prompt, codec.layout["h_s_scale"])
        busy = codec.scale(
            torch.full((1, TINY.hyper_channels, 2, 3), 20.0), prompt, codec.layout["h_s_scale"]
        )
    assert quiet.shape == (1, TINY.latent_channels, 8, 12)
    assert (quiet - 22).abs().max() < 8
    assert not torch.equal(quiet, busy)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [TINY, NANO], ids=lambda sizes: sizes.name)
def test_integer_form_is_at_most_one_level_away(sizes: CodecSizes) -> None:
    """Rounded weights move an index now and then; never by more than one level of about 10 %."""
    torch.manual_seed(3)
    parts = build_parts(sizes, 64, torch.device("cpu"))
    for conv in (parts.prompt.branches["h_s_scale"].conv3,):
        conv.weight.data.normal_(std=0.05)
    arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
    scale = ScaleGraph(parts.codec)
    z = torch.randint(-Z_MAX, Z_MAX + 1, (40, sizes.hyper_channels, 3, 2)).float()
    tensors = parts.prompt.tensors()
    with torch.no_grad():
        trained = parts.codec.scale(z, tensors, parts.codec.layout["h_s_scale"])
        shift = torch.zeros(40, sizes.latent_channels, 1, 1)
        whole = scale(z, shift, *(torch.from_numpy(arrays[name]) for name in scale.prompt))
    wanted = torch.clamp(torch.floor(trained + 0.5), 0, SIGMA_LEVELS - 1)
    apart = (whole - wanted).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.1
    assert len(np.unique(whole.numpy())) > 10, "random z reaches many levels"

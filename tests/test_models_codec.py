"""The codec put together: shapes, bits, rate gains, and what the edge costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from training_rig import THIRD_PARTY, TINY, tiny_parts

from splitcodec.entropy import SIGMA_MIN, Z_MAX, build_gaussian_tables
from splitcodec.export import build
from splitcodec.export.card import EDGE_GRAPHS
from splitcodec.export.graphs import HeadGraph, HyperEncoderGraph, QuantizerGraph, ScaleGraph
from splitcodec.models.codec import SIGMA_STEP, FeatureCodec, gaussian_bits
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import NANO
from splitcodec.models.transforms import ImageExtractor

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
HEAD_BUDGET = 2000.0  # MAC per input pixel of g_a, which a detector's own layers begin
EDGE_BUDGET = 2750.0  # of the whole edge, prompts included
SIGMA_ONE = math.log(1.0 / SIGMA_MIN) / SIGMA_STEP  # the index at which sigma is 1


@pytest.mark.parametrize(
    ("residual", "index", "bits"),
    [
        (0.0, SIGMA_ONE, 1.38486),  # mass of [-1/2, 1/2] under N(0, 1) is 0.3829249
        (1.0, SIGMA_ONE, 2.04852),  # Phi(1.5) - Phi(0.5) = 0.2417303
        (-1.0, SIGMA_ONE, 2.04852),
        (0.0, 0.0, 7.9e-6),  # sigma 0.11: 4.5 sigma either side
        (200.0, 0.0, 29.897),  # the floor of the likelihood, 1e-9
    ],
)
def test_bits_of_a_symbol(residual: float, index: float, bits: float) -> None:
    found = gaussian_bits(torch.full((1, 1, 1, 1), residual), torch.full((1, 1, 1, 1), index))
    assert found.item() == pytest.approx(bits, rel=2e-4, abs=2e-6)


def test_bits_add_up_per_sample() -> None:
    residual = torch.tensor([0.0, 1.0, 0.0, 0.0]).reshape(2, 1, 1, 2)
    bits = gaussian_bits(residual, torch.full_like(residual, SIGMA_ONE))
    assert bits.tolist() == pytest.approx([1.38486 + 2.04852, 2 * 1.38486], rel=1e-4)


def test_hyper_prior_is_a_distribution_over_integers_at_every_rate_point() -> None:
    prior = tiny_parts().hyper_prior
    z = torch.arange(-400.0, 401.0)[None, None, None].repeat(1, TINY.hyper_channels, 1, 1)
    with torch.no_grad():
        for point in range(TINY.rate_points):
            assert torch.allclose(prior.likelihood(z, point).sum(3), torch.tensor(1.0), atol=1e-3)


def test_hyper_prior_charges_each_sample_at_its_own_rate_point() -> None:
    prior = tiny_parts().hyper_prior
    z = torch.randn(8, TINY.hyper_channels, 2, 3) * 3
    points = torch.arange(4).repeat_interleave(2)
    with torch.no_grad():
        bits = prior(z, points)
        for i, point in enumerate(points.tolist()):
            want = -torch.log2(prior.likelihood(z[i : i + 1], point)).sum()
            assert bits[i].item() == pytest.approx(want.item(), rel=1e-5)


def test_rate_gains_grow_from_the_smallest_rate_to_the_largest() -> None:
    gains = tiny_parts().gains
    gain_y, gain_z, shift = gains(torch.arange(4))
    assert gain_y.shape == (4, TINY.latent_channels, 1, 1)
    assert gain_z.shape == (4, TINY.hyper_channels, 1, 1)
    assert (gain_y[1:] > gain_y[:-1]).all()
    assert shift.shape == gain_y.shape
    assert not shift.any()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 128)])
def test_pass_has_the_shapes_of_the_contract(height: int, width: int) -> None:
    parts = tiny_parts()
    image = torch.rand(4, 3, height, width) * 255
    with torch.no_grad():
        coded = parts.codec(image, torch.arange(4), parts.gains, parts.prompt, parts.hyper_prior)
        gain_y, gain_z, _ = parts.gains(torch.arange(4))
        y, importance = parts.codec.head(image, gain_y, parts.prompt.tensors())
        z = parts.codec.hyper(y, gain_z, parts.prompt.tensors())
    assert coded.feature.shape == (4, TINY.feature_channels, height // 8, width // 8)
    assert coded.bits.shape == (4,)
    assert (coded.y_bits > 0).all()
    assert torch.equal(coded.bits, coded.y_bits + coded.z_bits)
    assert y.shape == (4, TINY.latent_channels, height // 16, width // 16)
    assert importance.shape == (4, TINY.importance_maps, height // 16, width // 16)
    assert z.shape == (4, TINY.hyper_channels, -(-height // 64), -(-width // 64))


def test_hyper_latent_stays_within_the_tables() -> None:
    parts = tiny_parts()
    with torch.no_grad():
        z = parts.codec.hyper(
            torch.randn(1, TINY.latent_channels, 4, 4) * 1e4,
            torch.full((1, TINY.hyper_channels, 1, 1), 100.0),
            parts.prompt.tensors(),
        )
    assert z.abs().max() == Z_MAX


def test_every_codec_parameter_learns() -> None:
    parts = tiny_parts()
    parts.gains.log_gain_z.data.fill_(4.0)  # symbols of z other than 0, as a trained codec has
    zero_start = (parts.codec.lrcp.out, parts.codec.g_a.out, parts.codec.g_s.out, parts.adapter.mix.project)
    for layer in zero_start:  # what is before them would learn a step later
        layer.weight.data.normal_(std=0.1)
    coded = parts.codec(
        torch.rand(4, 3, 64, 64) * 255, torch.arange(4), parts.gains, parts.prompt, parts.hyper_prior
    )
    picture = parts.extractor(coded.feature)
    split = parts.adapter(coded.feature)
    (coded.bits.mean() / 1e3 + picture.square().mean() + split.square().mean()).backward()
    silent = [
        f"{part}/{name}"
        for part, module in parts.trained().items()
        for name, value in module.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.any())
    ]
    assert silent == []


def test_extractor_is_four_convolutions_back_to_the_picture() -> None:
    extractor = ImageExtractor(TINY.feature_channels)
    assert extractor(torch.randn(1, TINY.feature_channels, 6, 5)).shape == (1, 3, 48, 40)
    assert len([name for name in extractor.state_dict() if name.endswith("weight")]) == 4


@pytest.mark.slow
def test_head_costs_at_most_two_thousand_multiplications_per_pixel_and_the_edge_2750() -> None:
    torch.manual_seed(0)
    codec, prompt = FeatureCodec(NANO), TaskPrompt(NANO).tensors()
    examples = build._examples(codec, build_gaussian_tables())
    graphs = {
        "head": HeadGraph(codec),
        "hyper_encoder": HyperEncoderGraph(codec),
        "scale": ScaleGraph(codec),
        "quantizer": QuantizerGraph(codec),
    }
    assert tuple(graphs) == EDGE_GRAPHS
    costs = {}
    for name, graph in graphs.items():
        inputs = [examples[item].example for item in graph.inputs if item in examples]
        inputs += [prompt[item].detach() for item in graph.prompt]
        costs[name] = build.macs_per_pixel(graph, inputs)
    assert all(cost > 1 for cost in costs.values())
    assert sum(costs.values()) <= EDGE_BUDGET, costs
    _, height, width = build.EXAMPLE
    image = torch.zeros(2, 3, height, width)
    assert build.macs_per_pixel(codec.g_a, [image]) <= HEAD_BUDGET


def test_cost_counts_multiplications_per_pixel_of_the_network_input() -> None:
    _, height, width = build.EXAMPLE
    layer = torch.nn.Conv2d(3, 10, 8, stride=8)
    assert build.macs_per_pixel(layer, [torch.zeros(2, 3, height, width)]) == 30.0


def test_codec_without_residual_prediction_decodes_the_rounded_latent() -> None:
    torch.manual_seed(0)
    codec, prompt = FeatureCodec(replace(TINY, lrcp=False)), TaskPrompt(TINY).tensors()
    symbols, means = torch.randn(1, 8, 4, 6).round(), torch.randn(1, 8, 4, 6)
    with torch.no_grad():
        feature = codec.reconstruct(symbols, means, torch.full((1, 8, 1, 1), 0.5), prompt)
        assert torch.equal(feature, codec.g_s((symbols + means) * 0.5))
    assert not any(name.startswith("lrcp") for name in codec.state_dict())

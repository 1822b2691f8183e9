"""Parallel prompts: nothing at the start, alive afterwards, small, and never the base's business."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training_rig import THIRD_PARTY, TINY, tiny_parts

from splitcodec.entropy import Z_MAX
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.exact import INDEX_START, INDEX_UNIT, _trunk
from splitcodec.models.prompts import PromptBranch, TaskPrompt, prompt_layout
from splitcodec.models.sizes import BASE, NANO, CodecSizes
from splitcodec.training.codec_run import CodecParts
from splitcodec.training.prompt_run import prepare_prompt
from splitcodec.training.recipes import STAGE2

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
MAX_PARAMETERS = 300_000
POINTS = torch.arange(TINY.rate_points)


def pictures(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(TINY.rate_points, 3, height, width) * 255.0


class _Silent(nn.Module):
    """In place of a prompt branch: adds nothing."""

    def run(self, x: Tensor, tensors: object) -> float:
        return 0.0


def test_ablations_zero_every_layer_or_freeze_the_hyper_prompts() -> None:
    prompt = tiny_parts().prompt.requires_grad_(True)
    prepare_prompt(STAGE2["detect2-without-hyper-prompts"], prompt)
    learning = {name.split(".")[1] for name, p in prompt.named_parameters() if p.requires_grad}
    assert learning == {"g_a", "select", "g_s"}
    assert any(value.any() for value in prompt.tensors().values())
    prepare_prompt(STAGE2["detect2-all-zero-start"], prompt)
    assert not any(value.any() for value in prompt.tensors().values())


def test_fresh_prompt_leaves_every_transform_as_it_is_bit_for_bit() -> None:
    parts = tiny_parts()
    codec, tensors = parts.codec, parts.prompt.tensors()
    gain_y, gain_z, _ = parts.gains(POINTS)
    x = pictures() * (1.0 / 127.5) - 1.0
    y, importance = codec.head(pictures_of(x), gain_y, tensors)
    assert torch.equal(y, codec.g_a(pictures_of(x) * (1.0 / 127.5) - 1.0).latent * gain_y)
    assert torch.equal(importance, torch.ones_like(importance))
    assert torch.equal(codec.hyper(y, gain_z, tensors), torch.clamp(codec.h_a(y) * gain_z, -Z_MAX, Z_MAX))
    z = torch.round(torch.randn(4, TINY.hyper_channels, 1, 2) * 4)
    half = y[:, :, ::2, ::2]
    bare = codec.mean(z / gain_z, _Silent(), {}, half)
    assert torch.equal(codec.mean(z / gain_z, codec.bend["h_s_mean"], tensors, half), bare)
    base = _trunk(z, codec.scale.tensors(), "", codec.scale.layout)
    index = codec.scale(z, tensors, codec.layout["h_s_scale"])
    assert torch.equal(index, F.pixel_shuffle(base, 2) * INDEX_UNIT + INDEX_START)
    symbols, means = codec.context.quantize(y, bare)
    y_hat = (symbols + means) * (1.0 / gain_y)
    assert torch.equal(codec.reconstruct(symbols, means, 1.0 / gain_y, tensors), codec.g_s(y_hat))


def pictures_of(x: Tensor) -> Tensor:
    """Back from [-1, 1] to pixels."""
    return (x + 1.0) * 127.5


def test_two_different_fresh_prompts_give_the_same_pass_bit_for_bit() -> None:
    parts, image = tiny_parts(), pictures()
    torch.manual_seed(99)
    other = TaskPrompt(TINY)
    assert not torch.equal(other.tensors()["g_a.conv0.weight"], parts.prompt.tensors()["g_a.conv0.weight"])
    passes = []
    for prompt in (parts.prompt, other):
        torch.manual_seed(1)
        passes.append(parts.codec(image, POINTS, parts.gains, prompt, parts.hyper_prior))
    assert torch.equal(passes[0].feature, passes[1].feature)
    assert torch.equal(passes[0].bits, passes[1].bits)


def gradients_after_two_steps(parts: CodecParts, prompt: TaskPrompt) -> dict[str, Tensor]:
    """Train the prompt alone for two optimiser steps on rate and feature; the gradients of a third pass."""
    parts.codec.requires_grad_(False)
    parts.gains.log_gain_z.data.fill_(4.0)  # symbols of z other than 0, as a trained codec has
    optimiser = torch.optim.Adam(prompt.parameters(), lr=1e-3)
    image, target = pictures(), torch.randn(4, TINY.feature_channels, 8, 12)
    for step in range(3):
        optimiser.zero_grad(set_to_none=False)
        coded = parts.codec(image, POINTS, parts.gains, prompt, parts.hyper_prior)
        (coded.bits.mean() / 6144 + F.mse_loss(coded.feature, target)).backward()
        if step < 2:
            optimiser.step()
    return {name: value.grad for name, value in prompt.tensors().items() if value.grad is not None}


def test_every_prompt_tensor_has_a_gradient_after_two_steps() -> None:
    parts = tiny_parts()
    gradients = gradients_after_two_steps(parts, TaskPrompt(TINY))
    assert gradients.keys() == TaskPrompt(TINY).tensors().keys()
    assert [name for name, value in gradients.items() if not value.any()] == []


def test_prompt_that_starts_all_zero_is_dead() -> None:
    parts, prompt = tiny_parts(), TaskPrompt(TINY)
    for parameter in prompt.parameters():
        nn.init.zeros_(parameter)
    gradients = gradients_after_two_steps(parts, prompt)
    alive = {name for name, value in gradients.items() if value.any()}
    assert alive == {f"{group}.conv3.bias" for group in prompt_layout(TINY)}


@pytest.mark.parametrize("sizes", [NANO, BASE], ids=lambda sizes: sizes.name)
def test_prompt_of_a_task_is_small(sizes: CodecSizes) -> None:
    assert sum(p.numel() for p in TaskPrompt(sizes).parameters()) <= MAX_PARAMETERS


def test_prompt_tensors_carry_the_names_and_shapes_of_a_prompt_pack() -> None:
    tensors, layout = TaskPrompt(TINY).tensors(), prompt_layout(TINY)
    assert set(layout) == {"g_a", "select", "h_a", "h_s_mean", "h_s_scale", "g_s"}
    names = [f"{g}.conv{i}.{part}" for g in layout for i in range(4) for part in ("weight", "bias")]
    assert list(tensors) == names
    for group, convs in layout.items():
        for i, conv in enumerate(convs):
            assert tensors[f"{group}.conv{i}.weight"].shape == conv.shape
            assert tensors[f"{group}.conv{i}.bias"].shape == (conv.outputs,)
            assert bool(tensors[f"{group}.conv{i}.weight"].any()) == (i < 3), (
                "only the last one starts at zero"
            )


def test_codec_holds_no_prompt() -> None:
    """A codec checkpoint carries nothing of any task."""
    names = FeatureCodec(TINY).state_dict()
    assert not [name for name in names if name.startswith("bend")]
    branch = PromptBranch("g_a", prompt_layout(TINY)["g_a"])
    assert next(iter(branch.tensors())) == "g_a.conv0.weight"

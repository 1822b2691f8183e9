"""The exact branch as exported: integers in every engine, bounds that hold, tables that sum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_rig import THIRD_PARTY, TINY, WholeRun, tiny_parts, whole_run

from splitcodec.entropy import CDF_BITS, Z_MAX, ZTables
from splitcodec.errors import ExportMismatch, InexactScaleBranch
from splitcodec.export.build import exact_bound, hyper_counts, prompt_tensors
from splitcodec.export.graphs import ScaleGraph, _sum
from splitcodec.export.integers import (
    GRID_BITS,
    LAST,
    base_branch,
    grid,
    integer_conv,
    prompt_bits,
    prompt_branch,
)
from splitcodec.export.to_onnx import check_export
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.exact import ACT_MAX, FLOAT_EXACT, SUMMED_LIMIT, IntegerConv
from splitcodec.models.prompts import PromptConv, prompt_layout
from splitcodec.packs import load_pack
from splitcodec.prompts.tensors import check_exact_bound
from splitcodec.runtime import open_session

__all__ = ["whole_run"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]
Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
PARTS = ("weight", "bias")


def shuffle(x: Integers, factor: int) -> Integers:
    """Depth to space in the channel order of torch's pixel_shuffle."""
    n, channels, height, width = x.shape
    cells = x.reshape(n, channels // factor**2, factor, factor, height, width)
    return cells.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, height * factor, width * factor)


def convolve(x: Integers, weight: Integers, bias: Integers, conv: PromptConv) -> Integers:
    """The convolution and its depth-to-space in int64: nothing is ever rounded."""
    height, width, pad = x.shape[2], x.shape[3], conv.kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = np.broadcast_to(bias[:, None, None], (len(x), conv.outputs, height, width)).copy()
    for i in range(conv.kernel):
        for j in range(conv.kernel):
            part, taps = padded[:, :, i : i + height, j : j + width], weight[:, :, i, j]
            if conv.depthwise:
                total += taps[:, 0, None, None] * part
            else:
                total += np.einsum("oc,nchw->nohw", taps, part)
    return shuffle(total, conv.shuffle)


def requantise(total: Integers, shift: int) -> Integers:
    """Rounding division by 2**shift; >> is floor for negative integers too."""
    return (total + (1 << (shift - 1))) >> shift


def last_sum(
    layout: tuple[PromptConv, ...], tensors: Mapping[str, Floats], z: Floats, shifts: list[int]
) -> Integers:
    """The last convolution's sum in int64, before it is rounded; tensors: conv0.weight ... conv3.bias."""
    x = z.astype(np.int64)
    for i, conv in enumerate(layout):
        weight, bias = (tensors[f"conv{i}.{part}"].astype(np.int64) for part in PARTS)
        x = convolve(x, weight, bias, conv)
        if i < LAST:
            x = np.clip(requantise(x, shifts[i]), 0, ACT_MAX)
    return x


def base_tensors(scale: ScaleGraph) -> dict[str, Floats]:
    return {f"conv{i}.{part}": getattr(scale, f"{part}{i}").numpy() for i in range(4) for part in PARTS}


def without_group(prompt: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name.removeprefix("h_s_scale."): value for name, value in prompt.items()}


def simulate(scale: ScaleGraph, prompt: Mapping[str, Floats], z: Floats, rate_shift: Floats) -> Integers:
    """The scale graph in int64 numpy, from the same weights."""
    base = last_sum(scale.base_layout, base_tensors(scale), z, scale.base_shifts)
    bend = last_sum(scale.prompt_layout, without_group(prompt), z, scale.prompt_shifts)
    index = shuffle(requantise(base + bend, scale.base_shifts[LAST]), 2)
    return np.clip(index + rate_shift.astype(np.int64), 0, 63)


def extreme_prompt(share: float, seed: int = 0) -> dict[str, Floats]:
    """A prompt of integers whose worst case comes to `share` of every convolution's bound."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Floats] = {}
    for i, conv in enumerate(prompt_layout(TINY)["h_s_scale"]):
        layout = grid(i)
        fan_in = int(np.prod(conv.shape[1:]))
        room = layout.limit * share - (1 << layout.shift)
        top = max(1, int(room / (fan_in * layout.input_limit)))
        weight = (
            rng.integers(-top, top + 1, conv.shape) if fan_in > 1 else rng.choice([-top, top], conv.shape)
        )
        weight[0] = np.where(rng.random(conv.shape[1:]) < 0.5, -top, top)
        bias = rng.integers(-(1 << layout.shift), (1 << layout.shift) + 1, conv.outputs) // 2
        tensors[f"h_s_scale.conv{i}.weight"] = weight.astype(np.float32)
        tensors[f"h_s_scale.conv{i}.bias"] = bias.astype(np.float32)
    return tensors


def random_z(count: int, size: tuple[int, int] = (3, 2)) -> Floats:
    """count hyper-latents; every other one has nothing but the two extremes."""
    rng = np.random.default_rng(7)
    z = rng.integers(-Z_MAX, Z_MAX + 1, (count, TINY.hyper_channels, *size))
    z[::2] = rng.choice([-Z_MAX, Z_MAX], z[::2].shape)
    return z.astype(np.float32)


def shifts(count: int) -> Floats:
    rng = np.random.default_rng(8)
    return rng.integers(-9, 10, (count, TINY.latent_channels, 1, 1)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_float32_equals_int64_up_to_the_bound(share: float) -> None:
    scale, prompt = ScaleGraph(tiny_parts().codec), extreme_prompt(share)
    z, shift = random_z(60), shifts(60)
    with torch.no_grad():
        arrays = (torch.from_numpy(prompt[name]) for name in scale.prompt)
        found = scale(torch.from_numpy(z), torch.from_numpy(shift), *arrays).numpy()
    assert np.array_equal(found, simulate(scale, prompt, z, shift))
    assert len(np.unique(found)) > 8


def test_float32_differs_from_int64_far_above_the_bound() -> None:
    """The bound is there for a reason: sums of odd integers beyond 2**24 are rounded."""
    scale, prompt, z = ScaleGraph(tiny_parts().codec), extreme_prompt(0.3), random_z(60)
    prompt["h_s_scale.conv3.weight"] = prompt["h_s_scale.conv3.weight"] * 64 + 1
    tensors = [torch.from_numpy(prompt[name]) for name in scale.prompt]
    with torch.no_grad():
        total = (
            _sum(torch.from_numpy(z), tensors, scale.prompt_layout, scale.prompt_shifts)
            .numpy()
            .astype(np.int64)
        )
    exact = last_sum(scale.prompt_layout, without_group(prompt), z, scale.prompt_shifts)
    assert np.abs(exact).max() > FLOAT_EXACT
    assert not np.array_equal(total, exact)


@pytest.mark.slow
def test_onnx_runtime_torch_and_int64_agree_on_a_thousand_z(whole_run: WholeRun) -> None:
    model = load_pack(whole_run.pack).graph_bytes("scale")
    scale, prompt = ScaleGraph(whole_run.parts.codec), extreme_prompt(0.8, seed=3)
    z, shift = random_z(1000), shifts(1000)
    want = simulate(scale, prompt, z, shift)
    with torch.no_grad():
        arrays = (torch.from_numpy(prompt[name]) for name in scale.prompt)
        assert np.array_equal(scale(torch.from_numpy(z), torch.from_numpy(shift), *arrays).numpy(), want)
    for threads in (1, 2, 4):
        session = open_session(model, threads=threads, name="scale", exact=True)
        for batch in (1, 8) if threads == 1 else (8,):
            rows = range(0, 1000, batch) if batch == 8 else range(64)
            for i in rows:
                feed = {"z_symbols": z[i : i + batch], "rate_shift": shift[i : i + batch], **prompt}
                found = session.run(feed)["sigma_index"]
                assert np.array_equal(found, want[i : i + batch]), (threads, batch, i)


@pytest.mark.slow
def test_gate_refuses_a_graph_that_differs_by_one_level(whole_run: WholeRun) -> None:
    model = load_pack(whole_run.pack).graph_bytes("scale")
    scale = ScaleGraph(whole_run.parts.codec)
    feeds = {"z_symbols": random_z(8), "rate_shift": shifts(8), **extreme_prompt(0.2)}
    assert check_export("scale", model, scale, feeds, exact=True) == 0.0
    scale.bias3 += 1 << scale.base_shifts[LAST]
    with pytest.raises(ExportMismatch, match=r"scale: ONNX Runtime and torch differ by .*; limit is 0e"):
        check_export("scale", model, scale, feeds, exact=True)


@pytest.mark.parametrize("i", range(4))
def test_weights_too_large_for_the_bound_are_refused(i: int) -> None:
    layout = grid(i)
    fits = (layout.limit - (1 << layout.shift)) / layout.input_limit / layout.weight_scale
    weight = torch.zeros(2, 3, 1, 1)
    weight[1] = fits / 3 * 0.999
    conv = integer_conv(i, f"conv{i}", weight, torch.zeros(2))
    assert conv.worst_case() < layout.limit <= FLOAT_EXACT
    with pytest.raises(InexactScaleBranch, match=rf"conv{i}: sum\|w\|.*limit {layout.limit}; train with sma"):
        integer_conv(i, f"conv{i}", weight * 1.01, torch.zeros(2))
    with pytest.raises(InexactScaleBranch):
        integer_conv(i, f"conv{i}", weight, torch.tensor([2.0 * layout.limit / layout.sum_scale, 0.0]))


def test_worst_case_is_the_sum_of_the_largest_output_channel() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    conv = IntegerConv(weight, torch.tensor([-5.0, 6.0]), input_limit=10, shift=4, limit=SUMMED_LIMIT)
    assert conv.worst_case() == 70 + 6 + 8


def test_worst_case_is_exact_where_float32_is_not() -> None:
    """The assertion itself must not round: 2**24 + 1 does not exist in float32."""
    conv = IntegerConv(torch.full((1, 1, 1, 1), 1.0), torch.full((1,), 2.0**24), 1, 1, FLOAT_EXACT)
    assert conv.worst_case() == 2**24 + 2


def test_base_and_prompt_together_stay_below_the_limit() -> None:
    parts = tiny_parts()
    scale = ScaleGraph(parts.codec)
    prompt = prompt_branch("h_s_scale.", parts.prompt.tensors(), GRID_BITS)
    assert scale.base_worst_case + prompt[LAST].worst_case() < FLOAT_EXACT
    bound = exact_bound(scale)
    assert bound["h_s_scale.conv3"].addend_limit == scale.base_worst_case
    assert [bound[f"h_s_scale.conv{i}"].input_limit for i in range(4)] == [Z_MAX, ACT_MAX, ACT_MAX, ACT_MAX]
    assert [bound[f"h_s_scale.conv{i}"].shift for i in range(4)] == scale.prompt_shifts


def wide_codec(i: int, factor: float) -> FeatureCodec:
    """The tiny codec with weights of one convolution of its scale branch `factor` times as large."""
    codec = tiny_parts().codec
    with torch.no_grad():
        getattr(codec.scale, f"conv{i}").weight.mul_(factor)
    return codec


@pytest.mark.parametrize("i", range(4))
def test_base_with_large_weights_takes_a_coarser_grid(i: int) -> None:
    usual = base_branch(tiny_parts().codec.scale.tensors())
    codec = wide_codec(i, 0.9 * 4 * grid(i).limit / usual[i].worst_case())  # two bits too many
    base = base_branch(codec.scale.tensors())
    assert base[i].shift == usual[i].shift - 2
    assert grid(i).limit / 4 < base[i].worst_case() < grid(i).limit
    assert [conv.shift for conv in base[:i]] == [conv.shift for conv in usual[:i]]
    bits = prompt_bits(base)
    assert bits[:LAST] == GRID_BITS[:LAST]
    assert bits[LAST] == GRID_BITS[LAST] - (2 if i == LAST else 0), "a prompt's last sum has the base's unit"
    scale, prompt, z, shift = ScaleGraph(codec), extreme_prompt(0.4), random_z(20), shifts(20)
    with torch.no_grad():
        arrays = (torch.from_numpy(prompt[name]) for name in scale.prompt)
        found = scale(torch.from_numpy(z), torch.from_numpy(shift), *arrays).numpy()
    assert np.array_equal(found, simulate(scale, prompt, z, shift))


def test_base_that_no_grid_holds_is_refused() -> None:
    with pytest.raises(InexactScaleBranch, match=r"conv1: sum\|w\|\*255 .* train with smaller weights"):
        base_branch(wide_codec(1, 1e4).scale.tensors())


def test_pack_refuses_a_prompt_beyond_what_its_base_leaves_free() -> None:
    scale = ScaleGraph(tiny_parts().codec)
    bound = exact_bound(scale)
    check_exact_bound(extreme_prompt(0.99), bound, "prompt")
    last = "h_s_scale.conv3"
    tight = {**bound, last: bound[last].model_copy(update={"addend_limit": FLOAT_EXACT - 1000})}
    with pytest.raises(InexactScaleBranch, match=r"prompt: h_s_scale\.conv3 can reach"):
        check_exact_bound(extreme_prompt(0.99), tight, "prompt")


def test_exported_prompt_is_integers_in_float32() -> None:
    parts = tiny_parts()
    parts.prompt.branches["h_s_scale"].conv3.weight.data.normal_(std=0.02)
    arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
    assert set(arrays) == {
        *parts.prompt.tensors(),
        "rate.gain_y",
        "rate.gain_z",
        "rate.scale_shift",
        "rate.z_counts",
    }
    exact = {name: array for name, array in arrays.items() if name.startswith("h_s_scale.")}
    assert len(exact) == 8
    for name, array in exact.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, np.rint(array)), name
    trained = parts.prompt.tensors()["h_s_scale.conv3.weight"].detach().numpy()
    assert np.abs(arrays["h_s_scale.conv3.weight"] / grid(3).weight_scale - trained).max() <= 0.5 / 1024


def test_gains_and_shifts_leave_as_the_wire_wants_them() -> None:
    parts = tiny_parts()
    parts.gains.index_shift.data[1, 2] = -1.25
    arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
    assert np.allclose(arrays["rate.gain_y"], parts.gains.log_gain_y.detach().exp().numpy())
    assert arrays["rate.gain_z"].shape == (4, TINY.hyper_channels)
    assert arrays["rate.scale_shift"].dtype == np.int32
    assert arrays["rate.scale_shift"][1, 2] == -320


def test_hyper_tables_sum_and_follow_the_density() -> None:
    prior = tiny_parts().hyper_prior
    counts = hyper_counts(prior)
    assert counts.shape == (4, TINY.hyper_channels, 2 * Z_MAX + 1)
    assert counts.dtype == np.int32
    assert counts.min() >= 1
    assert (counts.sum(axis=2, dtype=np.int64) == 1 << CDF_BITS).all()
    ZTables(counts)
    z = torch.arange(-Z_MAX, Z_MAX + 1.0)[None, None, None].repeat(1, TINY.hyper_channels, 1, 1)
    with torch.no_grad():
        mass = prior.likelihood(z, 2)[0, :, 0].numpy()
    share = counts[2] / float(1 << CDF_BITS)
    assert np.abs(share - mass / mass.sum(axis=1, keepdims=True)).max() < 1e-5


def test_hyper_tables_keep_a_place_for_impossible_symbols() -> None:
    prior = tiny_parts().hyper_prior
    for model in prior.models:  # a density so narrow that float32 gives 0 away from the centre
        for matrix in model.matrices:
            matrix.data.add_(3.0)
    counts = hyper_counts(prior)
    assert counts.min() == 1
    assert counts.max() > 0.9 * (1 << CDF_BITS)
    assert (counts.sum(axis=2, dtype=np.int64) == 1 << CDF_BITS).all()

"""The exact branch as exported: integers in every engine, bounds that hold, tables that sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from int64_scale import extreme_prompt, last_sum, random_z, shifts, simulate, without_group
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
from splitcodec.packs import load_pack
from splitcodec.prompts.tensors import check_exact_bound
from splitcodec.runtime import open_session

__all__ = ["whole_run"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]


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

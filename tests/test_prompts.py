"""Prompts: the schema is exact, rates interpolate as written down, and the exact branch stays exact."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tiny_pack

from splitcodec.errors import InexactScaleBranch, InvalidPrompt, RateOutOfRange
from splitcodec.packs import Pack
from splitcodec.prompts import ExactConv, Prompt, TensorSpec, check_tensors, parse_tensors
from splitcodec.prompts.tensors import check_exact_bound

Tensors = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return tiny_pack.write_tiny_pack(tmp_path_factory.mktemp("prompts") / "tiny")


@pytest.fixture
def prompt(pack: Pack) -> Prompt:
    return pack.prompt("detect")


def check(tensors: Tensors, pack: Pack) -> None:
    codec = pack.manifest.codec
    check_tensors(tensors, codec.prompt_schema, codec.exact_bound, "p")


def test_safetensors_round_trip_is_read_only() -> None:
    tensors = tiny_pack.prompt_tensors()
    parsed = parse_tensors(safetensors.numpy.save(tensors), "p")
    assert parsed.keys() == tensors.keys()
    assert all(np.array_equal(parsed[k], v) and parsed[k].dtype == v.dtype for k, v in tensors.items())
    with pytest.raises(ValueError, match="read-only"):
        parsed["g_a.conv0.bias"][0] = 1


def _raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        struct.pack("<Q", 1 << 60),
        _raw({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, b"1234"),
        _raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}, b"1234"),
        _raw({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        _raw({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
    ],
    ids=["empty", "pickle", "huge header", "huge shape", "past the end", "bfloat16", "float64"],
)
def test_hostile_prompt_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidPrompt):
        parse_tensors(data, "p")


def test_sound_tensors_pass(pack: Pack) -> None:
    check(tiny_pack.prompt_tensors(), pack)


def test_missing_and_extra_tensors_are_named(pack: Pack) -> None:
    tensors = tiny_pack.prompt_tensors()
    tensors["more"] = tensors.pop("g_a.conv0.bias")
    with pytest.raises(InvalidPrompt, match=r"lacks tensors \['g_a\.conv0\.bias'\] and has extra \['more'\]"):
        check(tensors, pack)


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        ("g_a.conv0.bias", np.zeros(3, np.float32), r"float32\[3\], the codec takes float32\[8\]"),
        ("g_a.conv0.bias", np.zeros(8, np.int32), r"int32\[8\]"),
        ("g_a.conv0.bias", np.full(8, np.inf, np.float32), "infinity"),
        ("rate.gain_y", np.zeros((3, 8), np.float32), "not positive"),
        ("rate.z_counts", np.ones((3, 4, 63), np.int32), "sum to"),
        ("rate.scale_shift", np.full((3, 8), 1 << 30, np.int32), "sigma levels"),
    ],
)
def test_bad_tensor_is_named(pack: Pack, name: str, array: np.ndarray, text: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InvalidPrompt, match=text) as caught:
        check({**tiny_pack.prompt_tensors(), name: array}, pack)
    assert name in str(caught.value)


def test_exact_bound_by_hand() -> None:
    """Two output channels, the worse one with sum|w| = 2000, A = 255, |b| = 7, s = 5."""
    weight = np.array([[600, -400], [-1000, 1000]], np.float32).reshape(2, 2, 1, 1)
    tensors = {"h_s_scale.conv0.weight": weight, "h_s_scale.conv0.bias": np.array([0, -7], np.float32)}
    room = (1 << 24) - (2000 * 255 + 7 + 16)
    fits = ExactConv(input_limit=255, shift=5, addend_limit=room - 1)
    check_exact_bound(tensors, {"h_s_scale.conv0": fits}, "p")
    with pytest.raises(InexactScaleBranch, match="can reach 16777216, the limit is 16777216"):
        check_exact_bound(tensors, {"h_s_scale.conv0": fits.model_copy(update={"addend_limit": room})}, "p")


def test_trained_rate_points_are_exact(prompt: Prompt) -> None:
    for point in range(tiny_pack.K):
        at = prompt.rate_inputs(256 * point)
        assert np.array_equal(at.gain_y.reshape(-1), prompt.tensors["rate.gain_y"][point])
        assert np.array_equal(at.gain_z.reshape(-1), prompt.tensors["rate.gain_z"][point])
        assert np.array_equal(at.z_counts, prompt.tensors["rate.z_counts"][point])
        shift = (prompt.tensors["rate.scale_shift"][point] + 128) >> 8
        assert np.array_equal(at.rate_shift.reshape(-1), shift)


def test_gains_between_points_are_geometric(prompt: Prompt) -> None:
    at = prompt.rate_inputs(128)
    low, high = prompt.tensors["rate.gain_y"][:2].astype(np.float64)
    np.testing.assert_allclose(at.gain_y.reshape(-1), np.sqrt(low * high), rtol=1e-6)
    np.testing.assert_allclose(at.gain_y * at.gain_y_inv, 1, rtol=1e-6)
    np.testing.assert_allclose(at.gain_z * at.gain_z_inv, 1, rtol=1e-6)


def test_shift_and_z_table_between_points_by_hand(pack: Pack) -> None:
    """scale_shift 0, 700: at 0.75, (0*64 + 700*192) >> 8 = 525, (525 + 128) >> 8 = 2; at 0.5, z table 1."""
    counts = np.array(tiny_pack.prompt_tensors()["rate.z_counts"])
    counts[1, :, 0] += 5
    counts[1, :, 1] -= 5
    prompt = _prompt({**tiny_pack.prompt_tensors(), "rate.z_counts": counts}, pack)
    assert set(prompt.rate_inputs(192).rate_shift.reshape(-1)) == {2.0}
    assert np.array_equal(prompt.rate_inputs(128).z_counts, counts[1])
    assert np.array_equal(prompt.rate_inputs(127).z_counts, counts[0])


def _prompt(tensors: Tensors, pack: Pack) -> Prompt:
    return Prompt(
        task="t",
        digest="ab" * 32,
        tail_sha256="0" * 64,
        sigma_check="0" * 64,
        tensors=tensors,
        schema=pack.manifest.codec.prompt_schema,
    )


def test_negative_shift_rounds_towards_minus_infinity(pack: Pack) -> None:
    """scale_shift -300 and 0 at t = 64/256: (-300*192) >> 8 = -225, (-225 + 128) >> 8 = -1."""
    shift = np.array([[-300] * tiny_pack.CY, [0] * tiny_pack.CY, [0] * tiny_pack.CY], np.int32)
    prompt = _prompt({**tiny_pack.prompt_tensors(), "rate.scale_shift": shift}, pack)
    assert set(prompt.rate_inputs(64).rate_shift.reshape(-1)) == {-1.0}


@pytest.mark.parametrize("rate", [-0.001, 2.001, float("nan"), float("inf")])
def test_rate_out_of_range(prompt: Prompt, rate: float) -> None:
    with pytest.raises(RateOutOfRange, match=r"0\.\.2"):
        prompt.rate.to_fixed(rate)


@pytest.mark.parametrize("fixed", [-1, 513, 65535])
def test_fixed_rate_out_of_range(prompt: Prompt, fixed: int) -> None:
    with pytest.raises(RateOutOfRange):
        prompt.rate_inputs(fixed)


def test_rate_rounds_to_one_256th(prompt: Prompt) -> None:
    assert prompt.rate.to_fixed(1.3) == 333
    assert prompt.rate.to_fixed(2) == 512


def test_each_graph_gets_its_own_tensors(prompt: Prompt) -> None:
    assert set(prompt.graph_inputs("head")) == {"g_a.conv0.weight", "g_a.conv0.bias"}
    assert set(prompt.graph_inputs("scale")) == {"h_s_scale.conv0.weight", "h_s_scale.conv0.bias"}
    assert {name.partition(".")[0] for name in prompt.graph_inputs("decoder")} == {"h_s_mean", "g_s"}
    assert prompt.graph_inputs("decoder")["g_s.conv0.bias"] is prompt.tensors["g_s.conv0.bias"]


def test_schema_takes_no_float64(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        TensorSpec.model_validate({"shape": (1,), "dtype": "float64", "graphs": ()})

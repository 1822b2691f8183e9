"""Sigma indexes are the same integers whatever the batch, threads, optimiser or implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import tiny_pack

from splitcodec.entropy import Z_MAX
from splitcodec.errors import SigmaIndexMismatch
from splitcodec.packs import Pack
from splitcodec.packs.check import to_sigma_index
from splitcodec.prompts import Prompt
from splitcodec.runtime import Session, open_session
from splitcodec.runtime.ort import OrtSession

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
COUNT = 1000
SIZE = (7, 7)  # hyper-latent cells of the 416x416 network size


@pytest.fixture(scope="module", params=["tiny", "default"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    if request.param == "tiny":
        return tiny_pack.write_tiny_pack(tmp_path_factory.mktemp("exact") / "tiny")
    found = request.getfixturevalue("default_pack")
    assert isinstance(found, Pack)
    return found


def random_z(pack: Pack, count: int, size: tuple[int, int] = SIZE) -> Array:
    """count random hyper-latents; half of them at the extremes, where sums are largest."""
    rng = np.random.default_rng(2026)
    shape = (count, pack.manifest.codec.hyper_channels, *size)
    z = rng.integers(-Z_MAX, Z_MAX + 1, shape)
    z[::2] = np.where(rng.random(z[::2].shape) < 0.5, -Z_MAX, Z_MAX)
    return z.astype(np.float32)


def sigma(session: Session, prompt: Prompt, z: Array, batch: int) -> Array:
    """uint8 sigma indexes of all z, run `batch` at a time, rates spread over the whole range."""
    top = 256 * (prompt.rate.points - 1)
    shifts = np.concatenate(
        [prompt.rate_inputs(i * top // max(1, len(z) - 1)).rate_shift for i in range(len(z))]
    )
    parts = []
    for start in range(0, len(z), batch):
        feed = {"z_symbols": z[start : start + batch], "rate_shift": shifts[start : start + batch]}
        parts.append(to_sigma_index(session.run({**feed, **prompt.graph_inputs("scale")})["sigma_index"]))
    return np.concatenate(parts)


@pytest.mark.slow
@pytest.mark.timeout(900)  # threads that do not spin wake slowly on a busy machine
def test_thousand_random_z_across_batch_and_threads(pack: Pack) -> None:
    prompt, model, z = pack.prompt("detect"), pack.graph_bytes("scale"), random_z(pack, COUNT)
    want = sigma(open_session(model, threads=1, exact=True), prompt, z, batch=1)
    assert want.max() > want.min()
    for threads in (1, 2, 4):
        session = open_session(model, threads=threads, exact=True)
        for batch in (1, 8):
            assert np.array_equal(sigma(session, prompt, z, batch), want), (threads, batch)


def test_graph_optimiser_changes_nothing(pack: Pack) -> None:
    prompt, model, z = pack.prompt("detect"), pack.graph_bytes("scale"), random_z(pack, 64)
    written = sigma(open_session(model, exact=True), prompt, z, batch=8)
    optimised = sigma(OrtSession(model, "scale", exact=False), prompt, z, batch=8)
    assert np.array_equal(written, optimised)


def test_reference_implementation_agrees(pack: Pack) -> None:
    """onnx.reference shares no arithmetic with ONNX Runtime."""
    prompt, z = pack.prompt("detect"), random_z(pack, 4, size=(2, 3))
    model = pack.graph_bytes("scale")
    reference = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model))
    session = open_session(model, exact=True)
    for i, rate_fixed in enumerate((0, 100, 256 * (prompt.rate.points - 1))):
        feed = {
            "z_symbols": z[i : i + 1],
            "rate_shift": np.asarray(prompt.rate_inputs(rate_fixed).rate_shift),
            **{name: np.asarray(array) for name, array in prompt.graph_inputs("scale").items()},
        }
        (want,) = reference.run(None, feed)
        assert np.array_equal(session.run(feed)["sigma_index"], want)


def test_sums_in_another_order_agree(tmp_path: Path) -> None:
    """Permuting the input channels reorders every sum; exact sums do not care."""
    pack = tiny_pack.write_tiny_pack(tmp_path / "tiny")
    prompt, z = pack.prompt("detect"), random_z(pack, 8)
    session = open_session(pack.graph_bytes("scale"), exact=True)
    conv0 = "h_s_scale.conv0.weight"
    feed = {
        "rate_shift": np.repeat(prompt.rate_inputs(0).rate_shift, 8, axis=0),
        **prompt.graph_inputs("scale"),
    }
    order = np.random.default_rng(0).permutation(z.shape[1])
    straight = session.run({**feed, "z_symbols": z})["sigma_index"]
    permuted = {**feed, "z_symbols": z[:, order], conv0: np.ascontiguousarray(feed[conv0][:, order])}
    assert np.array_equal(session.run(permuted)["sigma_index"], straight)


@pytest.mark.parametrize("value", [0.5, -1.0, 64.0, float("nan"), float("inf")])
def test_value_that_is_no_sigma_index_is_an_error(value: float) -> None:
    values = np.zeros((1, 2, 3, 4), np.float32)
    values[0, 1, 2, 3] = value
    with pytest.raises(SigmaIndexMismatch):
        to_sigma_index(values)

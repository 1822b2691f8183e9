"""Chains of frames that hold cells: both sides stay together, and nothing is built on another state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from numpy.typing import NDArray

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.codec.held import LatentState, coded_latent, held_positions
from splitcodec.entropy import decode_mask
from splitcodec.errors import (
    CorruptBitstream,
    InvalidManifest,
    SigmaIndexMismatch,
    StateMismatch,
    UnsupportedFrame,
)
from splitcodec.held_bitstream import is_held, parse_held, serialize_held
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack

SIZE = (96, 160)
FAINT = 1e-4  # what a bit is worth where the random weights hardly see the square move


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack") / "holding"
    write_pack(folder, tiny_pack.holding())
    return load_pack(folder)


@pytest.fixture(scope="module")
def encoder(pack: Pack) -> FeatureEncoder:
    return FeatureEncoder(pack, "ort-cpu", 1)


@pytest.fixture(scope="module")
def decoder(pack: Pack) -> FeatureDecoder:
    return FeatureDecoder(pack, "ort-cpu", 2)


def scene(steps: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """A fixed background over which a bright square moves."""
    rng = np.random.default_rng(seed)
    still = rng.integers(40, 90, (*SIZE, 3), dtype=np.uint8)
    pictures = []
    for step in range(steps):
        picture = still.copy()
        left = 8 * step % (SIZE[1] - 32)
        picture[32:64, left : left + 32] = 230
        pictures.append(picture)
    return pictures


def key(encoder: FeatureEncoder, canvas: NDArray[np.uint8], rate: float = 1.0) -> tuple[bytes, LatentState]:
    coded = encoder.compress(canvas, encoder.pack.prompt("detect"), rate, (90, 150), chain=True)
    assert coded.state is not None
    assert coded.held == 0
    return coded.data, coded.state


def decoded_key(decoder: FeatureDecoder, data: bytes) -> LatentState:
    state = decoder.decompress(data).state()
    assert state is not None
    return state


def test_a_chain_keeps_both_sides_together_and_holds_what_rests(
    encoder: FeatureEncoder, decoder: FeatureDecoder
) -> None:
    first, *rest = scene(12)
    data, ours = key(encoder, first)
    theirs = decoded_key(decoder, data)
    assert theirs.name == ours.name
    shares = []
    for canvas in rest:
        sent = encoder.compress_held(canvas, ours, FAINT)
        assert is_held(sent.data)
        found = decoder.decompress(sent.data, theirs)
        mask = decode_mask(parse_held(sent.data).mask, theirs.held)
        kept = ~coded_latent(mask)
        after = found.state()
        assert after is not None
        assert sent.state is not None
        assert after.name == sent.state.name
        np.testing.assert_array_equal(after.latent[0][:, kept], theirs.latent[0][:, kept])
        np.testing.assert_array_equal(after.z[:, held_positions(mask)], theirs.z[:, held_positions(mask)])
        np.testing.assert_allclose(after.latent, sent.state.latent, atol=1e-4)
        assert found.feature.shape == decoder.decompress(data).feature.shape
        assert found.held == sent.held == mask.mean()
        assert (found.header, found.prompt) == (theirs.header, theirs.prompt)
        shares.append(sent.held)
        ours, theirs = sent.state, after
    assert theirs.frames == 12
    assert min(shares) > 0
    assert min(shares) < max(shares)


def test_a_scene_that_rests_costs_its_header(encoder: FeatureEncoder, decoder: FeatureDecoder) -> None:
    canvas = scene(1)[0]
    data, state = key(encoder, canvas)
    sent = encoder.compress_held(canvas, state)
    assert (sent.held, len(sent.data)) == (1.0, 13)
    before = decoded_key(decoder, data)
    found = decoder.decompress(sent.data, before)
    np.testing.assert_array_equal(found.feature, decoder.decompress(data).feature)


def test_what_a_bit_is_worth_decides_how_much_is_held(encoder: FeatureEncoder) -> None:
    first, second = scene(2)
    _, state = key(encoder, first)
    sizes = [encoder.compress_held(second, state, worth) for worth in (-1e9, 0.001, 0.1, 1e9)]
    assert [one.held for one in sizes] == sorted(one.held for one in sizes)
    assert (sizes[0].held, sizes[-1].held) == (0, 1)
    assert sizes[0].num_bytes > sizes[-1].num_bytes == 13


def test_a_frame_that_holds_nothing_decodes_as_a_key_frame_of_the_same_picture(
    encoder: FeatureEncoder, decoder: FeatureDecoder
) -> None:
    first, second = scene(2)
    data, ours = key(encoder, first)
    sent = encoder.compress_held(second, ours, -1e9)
    alone = decoder.decompress(key(encoder, second)[0])
    np.testing.assert_array_equal(
        decoder.decompress(sent.data, decoded_key(decoder, data)).feature, alone.feature
    )


def test_a_frame_is_never_decoded_on_another_state(encoder: FeatureEncoder, decoder: FeatureDecoder) -> None:
    first, second, third = scene(3)
    data, ours = key(encoder, first)
    theirs = decoded_key(decoder, data)
    sent = encoder.compress_held(second, ours)
    assert sent.state is not None
    lost = encoder.compress_held(third, sent.state)
    with pytest.raises(
        StateMismatch, match=r"builds on state [0-9a-f]{8}, this side has [0-9a-f]{8}; send a key"
    ):
        decoder.decompress(lost.data, theirs)
    with pytest.raises(StateMismatch, match="this side has none"):
        decoder.decompress(sent.data)
    other_rate = decoded_key(decoder, key(encoder, first, 0.5)[0])
    with pytest.raises(StateMismatch):
        decoder.decompress(sent.data, other_rate)
    assert decoder.decompress(sent.data, theirs).state() is not None


def test_key_frames_and_frames_that_hold_cells_share_a_batch(
    encoder: FeatureEncoder, decoder: FeatureDecoder
) -> None:
    first, second = scene(2)
    data, ours = key(encoder, first)
    theirs = decoded_key(decoder, data)
    sent = encoder.compress_held(second, ours)
    batch = [data, sent.data, sent.data, b"nothing"]
    found = decoder.decompress_batch(batch, states=[None, theirs, None, None])
    assert isinstance(found[2], StateMismatch)
    assert isinstance(found[3], CorruptBitstream)
    for one, alone in zip(
        found[:2], (decoder.decompress(data), decoder.decompress(sent.data, theirs)), strict=True
    ):
        np.testing.assert_allclose(one.feature, alone.feature, atol=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sigma_check": 1}, SigmaIndexMismatch),
        ({"mask": b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"}, CorruptBitstream),
        ({"y": b""}, CorruptBitstream),
        ({"y": b"\x01\x00"}, CorruptBitstream),
        ({"z": b"\x01"}, (CorruptBitstream, SigmaIndexMismatch)),
    ],
)
def test_a_forged_frame_is_refused(
    encoder: FeatureEncoder, decoder: FeatureDecoder, change: dict[str, object], error: type[Exception]
) -> None:
    first, second = scene(2)
    data, ours = key(encoder, first)
    frame = parse_held(encoder.compress_held(second, ours).data)
    with pytest.raises(error):
        decoder.decompress(serialize_held(replace(frame, **change)), decoded_key(decoder, data))  # type: ignore[arg-type]


def test_substreams_without_symbols_are_empty(encoder: FeatureEncoder, decoder: FeatureDecoder) -> None:
    canvas = scene(1)[0]
    data, ours = key(encoder, canvas)
    frame = parse_held(encoder.compress_held(canvas, ours).data)
    for name in ("y", "z"):
        with pytest.raises(CorruptBitstream, match=f"{name} has 2 bytes and no symbol"):
            decoder.decompress(
                serialize_held(replace(frame, **{name: b"\x0d\x5c"})),
                decoded_key(decoder, data),  # type: ignore[arg-type]
            )


def test_a_canvas_of_another_size_begins_a_chain_of_its_own(encoder: FeatureEncoder) -> None:
    _, state = key(encoder, scene(1)[0])
    with pytest.raises(UnsupportedFrame, match="a canvas of 64x64 cannot follow one of 96x160"):
        encoder.compress_held(np.zeros((64, 64, 3), np.uint8), state)


def test_a_pack_that_cannot_hold_cells_gives_no_state(tmp_path: Path) -> None:
    plain = tiny_pack.write_tiny_pack(tmp_path / "plain")
    assert not plain.holds
    encoder = FeatureEncoder(plain, "ort-cpu", 1)
    coded = encoder.compress(scene(1)[0], plain.prompt("detect"), 1.0, (90, 150), chain=True)
    assert coded.state is None
    assert FeatureDecoder(plain, "ort-cpu", 1).decompress(coded.data).state() is None


def test_a_pack_of_which_one_half_can_hold_cells_is_refused(tmp_path: Path) -> None:
    whole, plain = tiny_pack.holding(), tiny_pack.contents()
    half = replace(whole, graphs={**whole.graphs, "decoder": plain.graphs["decoder"]})
    with pytest.raises(InvalidManifest, match="only the quantizer graph can hold cells"):
        write_pack(tmp_path / "half", half)


@pytest.mark.slow
def test_a_thousand_frames_do_not_drift_between_two_machines(encoder: FeatureEncoder, pack: Pack) -> None:
    other = FeatureDecoder(pack, "ort-cpu", 2)
    pictures = scene(40, seed=3)
    data, ours = key(encoder, pictures[0])
    theirs = decoded_key(other, data)
    gaps = []
    for step in range(1, 1000):
        sent = encoder.compress_held(pictures[step % len(pictures)], ours, FAINT)
        found = other.decompress(sent.data, theirs).state()
        assert sent.state is not None
        assert found is not None
        assert found.name == sent.state.name, step
        ours, theirs = sent.state, found
        gaps.append(float(np.abs(ours.latent - theirs.latent).max()))
    assert max(gaps) < 1e-3

"""The codec end to end on the tiny pack: bytes out, the same symbols back, typed errors for the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from tiny_pack import noise_canvas

from splitcodec.bitstream import Bitstream, parse, serialize
from splitcodec.codec import CLOUD_STAGES, EDGE_STAGES, DecodedFeature, FeatureDecoder, FeatureEncoder
from splitcodec.entropy import encode_symbols
from splitcodec.errors import (
    BitstreamTooLarge,
    CorruptBitstream,
    FrameTooLarge,
    PackMismatch,
    RateOutOfRange,
    SigmaIndexMismatch,
    SplitcodecError,
    UnknownPrompt,
    UnsupportedFrame,
)
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack
from splitcodec.prompts import Prompt, PromptStore

SOURCE = (480, 640)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder: Path = tmp_path_factory.mktemp("codec") / "two"
    write_pack(folder, tiny_pack.with_task("other", seed=5))
    return load_pack(folder)


@pytest.fixture(scope="module")
def encoder(pack: Pack) -> FeatureEncoder:
    return FeatureEncoder(pack, "ort-cpu")


@pytest.fixture(scope="module")
def decoder(pack: Pack) -> FeatureDecoder:
    return FeatureDecoder(pack, "ort-cpu")


@pytest.fixture
def prompt(pack: Pack) -> Prompt:
    return pack.prompt("detect")


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (32, 160), (224, 96), (416, 416)])
@pytest.mark.parametrize("rate", [0.0, 0.7, 2.0])
def test_feature_comes_back(
    encoder: FeatureEncoder, decoder: FeatureDecoder, prompt: Prompt, size: tuple[int, int], rate: float
) -> None:
    frame = encoder.compress(noise_canvas(*size), prompt, rate, SOURCE)
    decoded = decoder.decompress(frame.data)
    height, width = size
    assert decoded.feature.shape == (1, tiny_pack.CH, height // 8, width // 8)
    assert decoded.feature.dtype == np.float32
    assert decoded.prompt is prompt
    assert (decoded.header.source_height, decoded.header.source_width) == SOURCE
    assert (decoded.header.network_height, decoded.header.network_width) == size
    assert frame.num_bytes == len(frame.data)
    assert abs(frame.rate - rate) <= 1 / 512
    assert tuple(frame.stage_seconds) == EDGE_STAGES
    assert set(decoded.stage_seconds) == set(CLOUD_STAGES)


def test_decoder_sees_exactly_the_symbols_of_the_encoder(
    pack: Pack, encoder: FeatureEncoder, decoder: FeatureDecoder, prompt: Prompt
) -> None:
    """The feature equals the decoder graph run on symbols computed step by step, without any bitstream."""
    canvas, at = noise_canvas(96, 64, seed=3), prompt.rate_inputs(300)
    head, hyper, scale, quantizer = (session.run for session in encoder.sessions)
    image = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32)
    y = head({"image": image, "gain_y": at.gain_y, **prompt.graph_inputs("head")})["y"]
    z = hyper({"y": y, "gain_z": at.gain_z, **prompt.graph_inputs("hyper_encoder")})["z_symbols"]
    shift = {"rate_shift": at.rate_shift, **prompt.graph_inputs("scale")}
    index = scale({"z_symbols": z, **shift})["sigma_index"][:, :, :6, :4].astype(np.uint8)
    limit = pack.tables.limit[index].astype(np.float32)
    feed = {"y": y, "z_symbols": z, "gain_z_inv": at.gain_z_inv, "symbol_limit": limit}
    symbols = quantizer({**feed, **prompt.graph_inputs("quantizer")})["symbols"]
    assert len(np.unique(symbols)) > 3
    feed = {"symbols": symbols, "z_symbols": z, "gain_z_inv": at.gain_z_inv, "gain_y_inv": at.gain_y_inv}
    want = decoder.sessions[1].run({**feed, **prompt.graph_inputs("decoder")})["feature"]
    frame = encoder.compress(canvas, prompt, 300 / 256, SOURCE)
    assert np.array_equal(decoder.decompress(frame.data).feature, want)
    assert parse(frame.data).y == encode_symbols(symbols[0].astype(np.int32), index[0], pack.tables)


def test_higher_rate_gives_more_bytes(encoder: FeatureEncoder, prompt: Prompt) -> None:
    canvas = noise_canvas(128, 128)
    sizes = [encoder.compress(canvas, prompt, rate, SOURCE).num_bytes for rate in (0.0, 1.0, 2.0)]
    assert sizes == sorted(set(sizes))


def test_same_frame_gives_the_same_bytes(pack: Pack, encoder: FeatureEncoder, prompt: Prompt) -> None:
    canvas = noise_canvas(64, 64)
    again = FeatureEncoder(pack, "ort-cpu", threads=2).compress(canvas, prompt, 1.0, SOURCE)
    assert again.data == encoder.compress(canvas, prompt, 1.0, SOURCE).data


@pytest.mark.parametrize(
    ("canvas", "error"),
    [
        (np.zeros((64, 64, 3), np.float32), UnsupportedFrame),
        (np.zeros((64, 64), np.uint8), UnsupportedFrame),
        (np.zeros((64, 64, 4), np.uint8), UnsupportedFrame),
        (np.zeros((0, 64, 3), np.uint8), UnsupportedFrame),
        (np.zeros((65, 129, 3), np.uint8), UnsupportedFrame),
        (np.zeros((1, 1, 3), np.uint8), UnsupportedFrame),
        (np.zeros((2080, 32, 3), np.uint8), FrameTooLarge),
    ],
)
def test_bad_canvas_is_refused(
    encoder: FeatureEncoder,
    prompt: Prompt,
    canvas: np.ndarray,
    error: type[SplitcodecError],  # type: ignore[type-arg]
) -> None:
    with pytest.raises(error, match="canvas is"):
        encoder.compress(canvas, prompt, 0.0, SOURCE)


def test_rate_beyond_the_trained_points_is_refused(encoder: FeatureEncoder, prompt: Prompt) -> None:
    with pytest.raises(RateOutOfRange):
        encoder.compress(noise_canvas(32, 32), prompt, 2.5, SOURCE)


def test_source_size_over_the_limit_is_refused(encoder: FeatureEncoder, prompt: Prompt) -> None:
    with pytest.raises(BitstreamTooLarge):
        encoder.compress(noise_canvas(32, 32), prompt, 0.0, (20_000, 10))


def _altered(data: bytes, **changes: object) -> bytes:
    bitstream = parse(data)
    return serialize(replace(bitstream, header=replace(bitstream.header, **changes)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(encoder: FeatureEncoder, pack: Pack) -> bytes:
    return encoder.compress(noise_canvas(64, 96), pack.prompt("detect"), 1.0, SOURCE).data


WRONG: dict[str, tuple[dict[str, object], type[SplitcodecError], str]] = {
    "other codec": ({"codec_digest": b"\1" * 8}, PackMismatch, "0101010101010101"),
    "other prompt": ({"prompt_digest": b"\2" * 8}, UnknownPrompt, "0202020202020202"),
    "rate": ({"rate_fixed": 600}, RateOutOfRange, "outside"),
    "sigma CRC": ({"sigma_crc": 1}, SigmaIndexMismatch, "0x00000001 at the encoder"),
}


@pytest.mark.parametrize(("changes", "error", "text"), WRONG.values(), ids=WRONG.keys())
def test_header_that_does_not_fit_is_refused(
    decoder: FeatureDecoder, data: bytes, changes: dict[str, object], error: type[SplitcodecError], text: str
) -> None:
    with pytest.raises(error, match=text):
        decoder.decompress(_altered(data, **changes))


def test_other_picture_size_is_noticed(decoder: FeatureDecoder, data: bytes) -> None:
    """Either z does not end where its substream ends, or the sigma indexes differ."""
    with pytest.raises((CorruptBitstream, SigmaIndexMismatch)):
        decoder.decompress(_altered(data, network_height=128))


def test_prompt_of_another_task_does_not_decode(decoder: FeatureDecoder, pack: Pack, data: bytes) -> None:
    """The sigma CRC tells: another prompt gives other sigma indexes."""
    with pytest.raises(SigmaIndexMismatch):
        decoder.decompress(_altered(data, prompt_digest=pack.prompt("other").wire_digest))


def test_damaged_substream_is_refused(decoder: FeatureDecoder, data: bytes) -> None:
    bitstream = parse(data)
    for cut in (Bitstream(bitstream.header, bitstream.z, bitstream.y[:-3]), replace(bitstream, y=b"")):
        with pytest.raises(CorruptBitstream):
            decoder.decompress(serialize(cut))


def test_batch_equals_single_frames_in_order(
    encoder: FeatureEncoder, decoder: FeatureDecoder, pack: Pack
) -> None:
    """Two tasks, two sizes and several rates in one call."""
    frames = [
        encoder.compress(noise_canvas(*size, seed=i), pack.prompt(task), rate, SOURCE).data
        for i, (task, size, rate) in enumerate(
            [
                ("detect", (64, 96), 0.0),
                ("other", (64, 96), 1.0),
                ("detect", (64, 96), 2.0),
                ("detect", (96, 64), 0.4),
                ("detect", (64, 96), 1.1),
            ]
        )
    ]
    batch = decoder.decompress_batch(frames)
    for data, result in zip(frames, batch, strict=True):
        alone = decoder.decompress(data)
        assert isinstance(result, DecodedFeature)
        assert result.header == alone.header
        assert result.prompt is alone.prompt
        np.testing.assert_allclose(result.feature, alone.feature, rtol=1e-4, atol=1e-4)


def test_bad_frames_do_not_harm_their_batch(decoder: FeatureDecoder, data: bytes) -> None:
    batch = decoder.decompress_batch([data, b"junk", _altered(data, sigma_crc=1), data])
    assert [type(result) for result in batch] == [
        DecodedFeature,
        CorruptBitstream,
        SigmaIndexMismatch,
        DecodedFeature,
    ]
    assert decoder.decompress_batch([]) == []


def test_leases_end_with_the_call(pack: Pack, data: bytes) -> None:
    store = PromptStore(pack.prompts.values())
    decoder = FeatureDecoder(pack, "ort-cpu", store=store)
    decoder.decompress_batch([data, data, b"junk"])
    assert [row.leases for row in store.list()] == [0, 0]


def test_encoder_refuses_a_prompt_this_machine_would_compute_differently(
    encoder: FeatureEncoder, decoder: FeatureDecoder, prompt: Prompt
) -> None:
    wrong = replace(prompt, digest="77" * 32, sigma_check="00" * 32)
    for warm in (encoder.warm, decoder.warm):
        with pytest.raises(SigmaIndexMismatch, match="would not decode what others encode"):
            warm(wrong)
    with pytest.raises(SigmaIndexMismatch):
        encoder.compress(noise_canvas(32, 32), wrong, 0.0, SOURCE)


def test_warm_runs_both_halves(encoder: FeatureEncoder, decoder: FeatureDecoder, prompt: Prompt) -> None:
    encoder.warm(prompt)
    decoder.warm(prompt)


def test_float_engine_may_differ_but_scale_is_on_the_cpu(
    encoder: FeatureEncoder, decoder: FeatureDecoder
) -> None:
    for sessions in (encoder.sessions, decoder.sessions):
        (scale,) = [session for session in sessions if session.name == "scale"]
        assert scale.engine == "onnxruntime-cpu"


@pytest.mark.slow
def test_default_pack_goes_there_and_back(default_pack: Pack) -> None:
    """Every trained rate point at the pack's own network size; bytes grow with the rate."""
    size = default_pack.task("detect").input
    prompt = default_pack.prompt("detect")
    encoder, decoder = FeatureEncoder(default_pack, "ort-cpu"), FeatureDecoder(default_pack, "ort-cpu")
    canvas = noise_canvas(size.height // 16, size.width // 16).repeat(16, axis=0).repeat(16, axis=1)
    num_bytes = []
    for rate in range(prompt.rate.points):
        frame = encoder.compress(canvas, prompt, float(rate), SOURCE)
        feature = decoder.decompress(frame.data).feature
        channels = default_pack.manifest.codec.feature_channels
        assert feature.shape == (1, channels, size.height // 8, size.width // 8)
        assert np.isfinite(feature).all()
        num_bytes.append(frame.num_bytes)
    assert num_bytes == sorted(set(num_bytes))


def test_a_second_coding_at_a_lower_rate_is_of_the_same_y(
    encoder: FeatureEncoder, decoder: FeatureDecoder, prompt: Prompt
) -> None:
    canvas, asked = noise_canvas(64, 96), []

    def again(rate: float, num_bytes: int) -> float:
        asked.append((rate, num_bytes))
        return 0.5

    big = encoder.compress(canvas, prompt, 2.0, SOURCE)
    small = encoder.compress(canvas, prompt, 0.5, SOURCE)
    coded = encoder.compress(canvas, prompt, 2.0, SOURCE, again=again)
    assert asked == [(2.0, big.num_bytes)]  # once, whatever came of it
    assert (coded.rate, coded.num_bytes) == (0.5, pytest.approx(small.num_bytes, abs=4))
    np.testing.assert_allclose(
        decoder.decompress(coded.data).feature, decoder.decompress(small.data).feature, atol=0.5
    )


@pytest.mark.parametrize("lower", [None, 1.0, 1.001, 2.0])
def test_no_lower_rate_leaves_the_frame_as_it_is(
    encoder: FeatureEncoder, prompt: Prompt, lower: float | None
) -> None:
    canvas = noise_canvas(64, 96)
    first = encoder.compress(canvas, prompt, 1.0, SOURCE)
    assert encoder.compress(canvas, prompt, 1.0, SOURCE, again=lambda *_: lower).data == first.data

"""Importance maps must follow the picture: those of another photo lose accuracy at equal bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from splitcodec.evaluation.codec_system import CodecFeature, codec_features
from splitcodec.evaluation.shuffled_maps import ShuffledMapsSystem, resized_maps, shuffled_systems
from splitcodec.frame import Canvas, to_canvas
from splitcodec.packs import Pack
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.runtime import open_session

RATES = (0.0, 1.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def canvases(default_pack: Pack) -> list[Canvas]:
    """Photos that come with scikit-image, and parts of them."""
    data = pytest.importorskip("skimage.data", reason="the photos come with scikit-image")
    photos = [data.chelsea(), data.astronaut(), data.coffee(), data.rocket()]
    photos += [data.astronaut()[:256, 128:], data.coffee()[100:, 150:450], data.chelsea()[:, 100:350]]
    convention = default_pack.task("detect").input
    return [to_canvas(np.ascontiguousarray(photo), convention) for photo in photos]


def test_maps_keep_their_values_when_they_take_another_size() -> None:
    maps = np.stack([np.full((4, 6), 0.5, np.float32), np.full((4, 6), 1.5, np.float32)])
    resized = resized_maps(maps, 9, 3)
    assert resized.shape == (2, 9, 3)
    assert np.allclose(resized[0], 0.5)
    assert np.allclose(resized[1], 1.5)


def curve(sizes: list[int], errors: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.log(np.array(sizes, dtype=np.float64)), np.array(errors)


@pytest.mark.slow
def test_maps_of_another_photo_lose_accuracy_at_equal_bytes(
    default_pack: Pack, canvases: list[Canvas]
) -> None:
    """The tail's outputs against those at the highest rate with maps of 1, which favours neither."""
    tail = open_session(default_pack.tail_bytes("detect"), "ort-cpu")
    features = codec_features(default_pack, "detect", RATES, "ort-cpu", 1)
    neutral = [reference(features[-1], canvas, tail) for canvas in canvases]

    def measured(run: object) -> tuple[int, float]:
        seen = [run(canvas) for canvas in canvases]  # type: ignore[operator]
        wrong = [error(outputs, wanted) for (outputs, _), wanted in zip(seen, neutral, strict=True)]
        return sum(size for _, size in seen), float(np.mean(wrong))

    def own_maps(feature: CodecFeature) -> object:
        def run(canvas: Canvas) -> tuple[dict[str, NDArray[np.float32]], int]:
            decoded, size = feature.round_trip(canvas)
            return tail.run({TAIL_INPUT: decoded}), size

        return run

    def other_maps(feature: CodecFeature) -> object:
        system = ShuffledMapsSystem(feature, tail)

        def run(canvas: Canvas) -> tuple[dict[str, NDArray[np.float32]], int]:
            output = system.run(canvas)
            return output.outputs, output.num_bytes

        return run

    own = [measured(own_maps(feature)) for feature in features]
    other = [measured(other_maps(feature)) for feature in features]
    assert all(low[0] < high[0] for low, high in pairwise(own))
    sizes, errors = curve([size for size, _ in own], [wrong for _, wrong in own])
    at, theirs = curve([size for size, _ in other], [wrong for _, wrong in other])
    inside = (at >= sizes[0]) & (at <= sizes[-1])
    assert inside.sum() >= 3
    assert (theirs[inside] > np.interp(at[inside], sizes, errors)).all(), "a constant map would lose nothing"


def reference(feature: CodecFeature, canvas: Canvas, tail: object) -> dict[str, NDArray[np.float32]]:
    """The tail's outputs at a rate with maps of 1."""
    rows, columns = (side // 16 for side in canvas.pixels.shape[:2])
    size = (canvas.source_height, canvas.source_width)
    ones = np.ones((12, rows, columns), np.float32)
    frame = feature.encoder.compress(canvas.pixels, feature.prompt, feature.rate, size, ones)
    return tail.run({TAIL_INPUT: feature.decoder.decompress(frame.data).feature})  # type: ignore[attr-defined]


def error(outputs: dict[str, NDArray[np.float32]], wanted: dict[str, NDArray[np.float32]]) -> float:
    """Mean absolute difference of class scores times objectness, over the wanted sum of them."""
    total = wrong = 0.0
    for name, want in wanted.items():
        have = outputs[name]
        scores = [head[:, 4:5] * head[:, 5:] for head in (have, want)]
        wrong += float(np.abs(scores[0] - scores[1]).sum())
        total += float(scores[1].sum())
    return wrong / total


def test_there_is_one_system_per_rate(default_pack: Pack) -> None:
    systems = shuffled_systems(default_pack, "detect", (0.0, 2.5), "ort-cpu", 1)
    assert [system.rate for system in systems] == [0.0, 2.5]
    assert {system.codec for system in systems} == {"splitcodec-shuffled"}

"""encode, decode and inspect on files: what the services would do to one picture, and the map people see."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.codec import FeatureEncoder
from splitcodec.frame import read_canvas
from splitcodec.importance import importance_png, importance_stats
from splitcodec.packs import Pack


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of a cat, 451x300, as PNG."""
    data = pytest.importorskip("skimage.data", reason="the photo comes with scikit-image")
    path = tmp_path_factory.mktemp("photo") / "cat.png"
    Image.fromarray(data.chelsea()).save(path)
    return path


@pytest.mark.slow
def test_a_picture_goes_through_files_and_the_cat_is_a_cat(cat: Path, tmp_path: Path) -> None:
    coded, seen = tmp_path / "cat.sc", tmp_path / "map.png"
    told = run("encode", cat, "--out", coded, "--map", seen, "--rate", 2)
    assert f"{coded.stat().st_size} bytes, task detect, rate 2, canvas 416x288" in told
    assert "importance: mean 0." in told
    with Image.open(seen) as picture:
        assert picture.size == (451, 300)
    answer = json.loads(run("decode", coded))
    assert answer["task"] == "detect"
    assert answer["detections"][0]["label"] == "cat"
    shown = run("inspect", coded)
    for part in (
        "picture 451x300",
        "canvas  416x288",
        "rate    2",
        f"bytes   {coded.stat().st_size}: header 4",
    ):
        assert part in shown


def test_the_map_is_bright_where_it_is_high_and_keeps_the_pictures_size(default_pack: Pack) -> None:
    grey = Image.fromarray(np.full((90, 160, 3), 200, np.uint8))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    canvas = read_canvas(buffer.getvalue(), None, default_pack.task("detect").input)
    rows, columns = (side // 16 for side in canvas.pixels.shape[:2])
    maps = np.full((12, rows, columns), 0.5, np.float32)
    maps[:, :, columns // 2 :] = 1.5
    with Image.open(io.BytesIO(importance_png(canvas, maps))) as picture:
        shaded = np.asarray(picture)
    assert shaded.shape == (90, 160, 3)
    assert (shaded[:, :60] < 80).all()
    assert (shaded[:, 100:] > 190).all()
    stats = importance_stats(maps)
    assert stats.spread == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_the_shipped_selector_is_no_constant_and_differs_between_pictures(default_pack: Pack) -> None:
    data = pytest.importorskip("skimage.data", reason="the photos come with scikit-image")
    encoder, prompt = FeatureEncoder(default_pack, "ort-cpu"), default_pack.prompt("detect")
    maps = []
    for photo in (data.chelsea(), data.coffee()[:288, :416]):
        canvas = np.ascontiguousarray(photo[:288, :416])
        maps.append(encoder.compress(canvas, prompt, 1.0, (288, 416)).importance)
    assert all(importance_stats(some).spread > 0.05 for some in maps)
    assert np.abs(maps[0] - maps[1]).mean() > 0.03

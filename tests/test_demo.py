"""The demo: its photos, its table, its last line, its exit status."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.demo import overlay_paths, services
from splitcodec.demo_show import Outcome, jpeg_sizes, side_by_side, summary, table
from splitcodec.errors import RuntimeUnavailable
from splitcodec.frame import read_picture
from splitcodec.sample_photos import packaged_photos
from splitcodec.tasks import Named

FOUND = (Named("cat", 0.81), Named("dog", 0.26))


def jpeg(height: int, width: int, shade: int) -> bytes:
    return simplejpeg.encode_jpeg(np.full((height, width, 3), shade, np.uint8))


CAT = Outcome("cat.png", "detect", FOUND, 2100, (9000, 14000), 31.25, 44.04, jpeg(60, 90, 200))
EMPTY = Outcome("wall.png", "segment", (), 900, (800, 1200), 8.0, 4.0, jpeg(30, 45, 100))


def test_the_photos_come_with_scikit_image() -> None:
    photos = packaged_photos()
    assert {"astronaut.png", "chelsea.png", "coffee.png"} <= {photo.name for photo in photos}
    for photo in photos:
        assert min(read_picture(photo.read_bytes()).shape[:2]) >= 300


def test_the_table_is_aligned_and_complete() -> None:
    lines = table([CAT, EMPTY])
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[0] == "photo"
    assert "cat 0.81, dog 0.26" in lines[2]
    assert lines[2].split()[:2] == ["cat.png", "detect"]
    assert lines[2].split()[-5:] == ["2100", "9000", "14000", "31.2", "44.0"]
    assert "nothing" in lines[3]


def test_the_summary_adds_up() -> None:
    assert summary([CAT, EMPTY]) == "demo ok: frames=2 sent_bytes=3000 jpeg75_bytes=15200 detections=2"


def test_answers_of_one_photo_stand_side_by_side_under_a_caption() -> None:
    whole = simplejpeg.decode_jpeg(side_by_side([CAT, EMPTY]), colorspace="RGB")
    assert whole.shape == (30 + 24, 45 + 45, 3)
    assert (abs(whole[40, 20].astype(int) - 200) < 8).all()
    assert (abs(whole[40, 70].astype(int) - 100) < 8).all()


def test_jpeg_sizes_are_those_of_the_fitted_picture(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "big.png")
    half = Image.fromarray(rgb).resize((300, 150), Image.Resampling.BILINEAR)
    half.save(tmp_path / "half.jpg", quality=75, optimize=True, subsampling="4:2:0")
    sizes = jpeg_sizes((tmp_path / "big.png").read_bytes(), 300, 300)
    assert sizes[1] == (tmp_path / "half.jpg").stat().st_size
    assert sizes[0] < sizes[1]


def test_photos_of_one_name_get_pictures_of_their_own() -> None:
    photos = [Path("a/cat.png"), Path("b/cat.jpg"), Path("dog.png"), Path("c/cat.webp")]
    assert [path.name for path in overlay_paths(photos, Path("o"))] == [
        "cat.jpg",
        "cat-2.jpg",
        "dog.jpg",
        "cat-3.jpg",
    ]


@pytest.mark.slow
def test_a_service_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeUnavailable, match=r"cloud service ended; the end of its log: .*PackNotFound"),
        services(tmp_path, str(tmp_path / "no-pack")),
    ):
        pass


@pytest.mark.slow
def test_real_photos_become_detections_through_both_services(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    lines = done.output.strip().splitlines()
    found = re.fullmatch(
        r"demo ok: frames=(\d+) sent_bytes=(\d+) jpeg75_bytes=(\d+) detections=(\d+)", lines[-1]
    )
    assert found, lines[-1]
    frames, sent, jpeg75, detections = map(int, found.groups())
    assert frames == 3 * len(packaged_photos()), "each photo for each of three tasks"
    assert detections >= len(packaged_photos())
    assert sent < jpeg75 / 2
    for photo in packaged_photos():
        drawn = read_picture((tmp_path / "out" / f"{photo.stem}.jpg").read_bytes())
        height, width = read_picture(photo.read_bytes()).shape[:2]
        assert drawn.shape == (height + 24, 3 * width, 3)
    cells = [line.split(maxsplit=2) for line in lines if ".png" in line[:40] and "/" not in line]
    rows = {(photo, task): rest for photo, task, rest in cells}
    assert rows["astronaut.png", "detect"].startswith("person")
    assert rows["chelsea.png", "detect"].startswith("cat ")
    assert rows["coffee.png", "detect"].startswith("cup")
    assert rows["chelsea.png", "segment"].startswith("cat ")
    assert rows["astronaut.png", "segment"].startswith("person")
    assert rows["chelsea.png", "classify"].startswith("tiger cat")


@pytest.mark.slow
def test_a_photo_without_detections_fails_the_demo(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (114, 114, 114)).save(tmp_path / "wall.png")
    done = CliRunner().invoke(
        app, ["demo", "--out", str(tmp_path / "out"), "--image", str(tmp_path / "wall.png")]
    )
    assert done.exit_code == 1
    assert re.search(r"^demo failed: nothing was found in .*wall\.png$", done.output, re.MULTILINE)
    assert "demo ok" not in done.output

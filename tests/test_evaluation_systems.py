"""The picture codecs, and the systems around the teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitcodec.errors import DatasetError, RuntimeUnavailable
from splitcodec.evaluation.anchors import Anchor, CodedPicture, PillowAnchor, standard_anchors
from splitcodec.evaluation.systems import AnchorSystem, TeacherSystem, open_teacher
from splitcodec.frame import Canvas
from splitcodec.placement import Fit, FrameSize
from splitcodec.teacher_inputs import TEACHER_INPUTS, TeacherInput

AS_IT_IS = TeacherInput(bgr=False, scale=1.0, offset=0.0)
ANCHORS = {anchor.name: anchor for anchor in standard_anchors()}


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A colourful ramp with some texture: codes well, but not to nothing."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * y / height, 255 * x / width
    blue = 128 + 60 * np.sin(x / 5) * np.cos(y / 7)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """In dB."""
    return float(-10 * np.log10(np.mean((a.astype(float) - b) ** 2) / 255**2))


class SpySession:
    """Records what it is fed and gives nothing."""

    name, engine, placement = "spy", "none", {}
    input_names, output_names = ("images",), ()

    def __init__(self) -> None:
        self.fed: dict[str, NDArray[Any]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.fed = dict(inputs)
        return {}


class Inverter:
    """A picture codec that gives back the negative, in as many bytes as its quality says."""

    name, settings, qualities = "inverter", "", (3,)

    def round_trip(self, picture: NDArray[np.uint8], quality: int) -> CodedPicture:
        return CodedPicture(quality, 255 - picture)


def test_the_alternatives_are_there_with_enough_points() -> None:
    assert list(ANCHORS) == ["jpeg", "webp", "avif", "hevc-medium", "hevc-slow"]
    assert all(len(set(anchor.qualities)) >= 6 for anchor in ANCHORS.values())


@pytest.mark.parametrize("name", list(ANCHORS))
def test_a_round_trip_costs_more_and_looks_better_with_quality(name: str) -> None:
    anchor, picture = ANCHORS[name], smooth_picture(48, 64)
    low, high = (anchor.round_trip(picture, anchor.qualities[end]) for end in (0, -1))
    assert low.picture.shape == high.picture.shape == picture.shape
    assert low.picture.dtype == np.uint8
    assert 0 < low.num_bytes < high.num_bytes
    assert psnr(low.picture, picture) < psnr(high.picture, picture)
    assert psnr(high.picture, picture) > 32


def test_presets_of_hevc_differ_in_name_settings_and_bytes() -> None:
    medium, slow = ANCHORS["hevc-medium"], ANCHORS["hevc-slow"]
    assert "preset=medium" in medium.settings
    assert "preset=slow" in slow.settings
    assert medium.qualities == slow.qualities
    picture = smooth_picture(64, 96)
    sizes = {anchor.round_trip(picture, 25).num_bytes for anchor in (medium, slow)}
    assert len(sizes) == 2


@pytest.mark.parametrize("name", list(ANCHORS))
def test_odd_sizes_come_back_as_they_were(name: str) -> None:
    anchor: Anchor = ANCHORS[name]
    assert anchor.round_trip(smooth_picture(33, 65), anchor.qualities[-1]).picture.shape == (33, 65, 3)


def test_a_format_this_pillow_cannot_write_is_named() -> None:
    with pytest.raises(RuntimeUnavailable, match="cannot write vvc"):
        PillowAnchor("vvc", (1,), ()).round_trip(smooth_picture(8, 8), 1)


@pytest.mark.parametrize(
    ("postprocess", "eaten"),
    [
        ("yolox", [255.0, 64.0, 0.0]),
        ("deeplab", [-1.0, -0.5, 255 / 128 - 1]),
        ("classify", [-1.0, 64 / 127.5 - 1, 1.0]),
        ("retinanet", [0.0, 64 / 255, 1.0]),
        ("deeplab_centred", [0.0, 64 / 255, 1.0]),
    ],
)
def test_each_teacher_takes_what_it_was_published_with(postprocess: str, eaten: list[float]) -> None:
    session = SpySession()
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[2, 5] = (0, 64, 255)
    canvas = Canvas(pixels, FrameSize(32, 64, 32, 64))
    output = TeacherSystem(session, TEACHER_INPUTS[postprocess]).run(canvas)
    fed = session.fed["images"]
    assert (fed.shape, fed.dtype, output.num_bytes) == ((1, 3, 32, 64), np.float32, None)
    assert fed[0, :, 2, 5].tolist() == pytest.approx(eaten, abs=1e-6)


def test_an_anchor_codes_the_picture_but_not_the_fill() -> None:
    session = SpySession()
    pixels = np.full((32, 32, 3), 114, np.uint8)
    pixels[:16] = 55  # a 64 x 32 source in a 32 x 32 canvas: the lower half is fill
    system = AnchorSystem(Inverter(), 3, TeacherSystem(session, AS_IT_IS), fill=114)
    output = system.run(Canvas(pixels, FrameSize(32, 64, 32, 32)))
    fed = session.fed["images"][0]
    assert (fed[:, :16] == 200).all()
    assert (fed[:, 16:] == 114).all()
    assert (output.num_bytes, system.codec, system.rate) == (3, "inverter", 3.0)


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_an_anchor_codes_a_canvas_without_fill_whole(fit: Fit) -> None:
    session = SpySession()
    canvas = Canvas(np.full((32, 32, 3), 55, np.uint8), FrameSize(32, 64, 32, 32, fit))
    AnchorSystem(Inverter(), 3, TeacherSystem(session, AS_IT_IS), fill=0).run(canvas)
    assert (session.fed["images"] == 200).all()


def test_a_teacher_must_be_named_and_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="set SPLITCODEC_TEACHER"):
        open_teacher(None, "yolox", 1)
    with pytest.raises(DatasetError, match="no teacher at"):
        open_teacher(tmp_path / "absent.onnx", "yolox", 1)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"unknown what net\.onnx takes; known: \['classify', 'deeplab'"):
        open_teacher(tmp_path / "net.onnx", "ssd", 1)

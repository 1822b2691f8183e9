"""Where a picture lies on its canvas: three ways, on paper and in pixels, and back to the picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from splitcodec.frame import read_canvas, read_picture, to_canvas
from splitcodec.packs import InputConvention
from splitcodec.placement import Fit, FrameSize, Window
from splitcodec.tasks.yolox import boxes_to_source

IMAGENET = InputConvention(height=224, width=224, fit="crop", fill=0, crop=0.875)


def test_a_crop_is_imagenets_256_to_224() -> None:
    size = FrameSize(480, 640, 224, 224, "crop", 0.875)
    assert size.source_window == Window(30, 110, 420, 420)
    assert size.canvas_window == Window(0, 0, 224, 224)
    assert size.scale == (224 / 420, 224 / 420)
    assert size.decoded_size == (256, 342)  # the short side at 256, as published


def test_a_crop_follows_the_shape_of_its_canvas() -> None:
    assert FrameSize(480, 640, 64, 192, "crop").source_window == Window(133, 0, 213, 640)
    assert FrameSize(480, 640, 192, 64, "crop").source_window == Window(0, 240, 480, 160)


def test_a_stretch_shows_all_of_the_picture_on_all_of_the_canvas() -> None:
    size = FrameSize(480, 640, 96, 64, "stretch")
    assert size.source_window == Window(0, 0, 480, 640)
    assert size.canvas_window == Window(0, 0, 96, 64)
    assert size.scale == (0.2, 0.1)
    assert size.decoded_size == (96, 64)


def test_a_letterbox_scales_both_sides_alike() -> None:
    size = FrameSize(480, 640, 416, 416)
    assert size.source_window == Window(0, 0, 480, 640)
    assert size.canvas_window == Window(0, 0, 312, 416)
    assert size.scale == (0.65, 0.65)
    assert size.decoded_size == (312, 416)


@given(
    sides=st.tuples(*[st.integers(1, 5000)] * 2),
    canvas=st.tuples(*[st.integers(1, 64).map(lambda n: 32 * n)] * 2),
    fit=st.sampled_from(["letterbox", "stretch", "crop"]),
    crop=st.floats(0.001, 1.0),
)
def test_windows_stay_inside_and_hold_pixels(
    sides: tuple[int, int], canvas: tuple[int, int], fit: Fit, crop: float
) -> None:
    size = FrameSize(*sides, *canvas, fit, crop)
    for window, (height, width) in ((size.source_window, sides), (size.canvas_window, canvas)):
        assert window.top >= 0
        assert window.left >= 0
        assert window.height >= 1
        assert window.width >= 1
        assert window.top + window.height <= height
        assert window.left + window.width <= width
    assert min(size.decoded_size) >= 1


def framed(height: int, width: int, window: Window) -> np.ndarray:
    """A red picture, blue inside the window."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = 255
    inside = (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )
    rgb[inside] = (0, 0, 255)
    return rgb


def test_the_canvas_of_a_crop_holds_the_window() -> None:
    """Resized, then cut, as ImageNet's networks are measured: the outermost pixels mix with what is cut."""
    pixels = to_canvas(framed(480, 640, Window(30, 110, 420, 420)), IMAGENET).pixels
    assert pixels.shape == (224, 224, 3)
    assert (pixels[1:-1, 1:-1] == (0, 0, 255)).all()
    assert pixels[:, :, 0].max() < 128
    # four pixels of red on each side are two of the canvas
    edge = to_canvas(framed(480, 640, Window(34, 114, 412, 412)), IMAGENET).pixels
    assert (edge[[0, 1, -2, -1], 5:-5, 0] > 150).all()
    assert (edge[5:-5, [0, 1, -2, -1], 0] > 150).all()
    assert (edge[5:-5, 5:-5] == (0, 0, 255)).all()


def test_the_canvas_of_a_stretch_holds_all_four_corners() -> None:
    rgb = np.zeros((100, 300, 3), np.uint8)
    for row, column, colour in ((0, 0, 50), (0, -60, 100), (-20, 0, 150), (-20, -60, 200)):
        rgb[row : row + 20 or None, column : column + 60 or None] = colour
    convention = InputConvention(height=64, width=64, fit="stretch", fill=9)
    pixels = to_canvas(rgb, convention).pixels
    corners = [int(pixels[row, column, 0]) for row in (0, -1) for column in (0, -1)]
    assert corners == [50, 100, 150, 200]


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_a_jpeg_decoded_smaller_gives_nearly_the_same_canvas(fit: Fit) -> None:
    y, x = np.mgrid[0:1000, 0:1500]
    rgb = np.stack([255 * x / 1500, 255 * y / 1000, 128 + 60 * np.sin(x / 40)], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=92)
    convention = InputConvention(height=224, width=224, fit=fit, fill=0, crop=0.875 if fit == "crop" else 1.0)
    reduced = read_canvas(buffer.getvalue(), "image/jpeg", convention)
    whole = to_canvas(read_picture(buffer.getvalue()), convention)
    assert (reduced.size, reduced.source_height, reduced.source_width) == (whole.size, 1000, 1500)
    gap = np.abs(reduced.pixels.astype(np.int32) - whole.pixels.astype(np.int32))
    assert gap.mean() < 1.0


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        (FrameSize(480, 640, 416, 416), (0.0, 320.0, 160.0, 480.0)),
        (FrameSize(480, 640, 96, 64, "stretch"), (0.0, 480.0, 640.0, 480.0)),
        (FrameSize(480, 640, 224, 224, "crop", 0.875), (110.0, 420.0, 305.0, 480.0)),
    ],
)
def test_boxes_come_back_to_the_picture_whatever_the_fit(
    size: FrameSize, corners: tuple[float, float, float, float]
) -> None:
    # canvas box (0, 208) to (104, 416); a crop begins at (110, 30) of its picture
    found = boxes_to_source(np.array([[0, 208, 104, 416]], np.float32), size)
    np.testing.assert_allclose(found, [corners], rtol=1e-6)


def test_only_a_crop_may_state_what_it_keeps() -> None:
    with pytest.raises(ValidationError, match="only fit 'crop' crops"):
        InputConvention(height=64, width=64, fit="stretch", fill=0, crop=0.9)
    with pytest.raises(ValidationError):
        InputConvention(height=64, width=64, fit="crop", fill=0, crop=0.0)

"""Pictures in: decoding, EXIF orientation, letterbox geometry, reduced JPEG decoding, damage."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from splitcodec.errors import BrokenFrame, FrameError
from splitcodec.frame import RGB, decode_picture, read_canvas, read_picture, resize, to_canvas
from splitcodec.placement import fit_size


@dataclass(frozen=True)
class Square416:
    height: int = 416
    width: int = 416
    fit: str = "letterbox"
    fill: int = 114
    crop: float = 1.0
    trim: bool = False


def within_416(height: int, width: int) -> tuple[int, int]:
    return fit_size(height, width, 416, 416)


def scene(height: int, width: int) -> RGB:
    """Smooth colours that differ in every corner: uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        255 * x / max(width - 1, 1),
        255 * y / max(height - 1, 1),
        120 + 60 * np.sin(x / 9) * np.cos(y / 7),
    ]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(rgb: RGB, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(rgb: RGB, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(
        rgb, kind, exif=exif.tobytes(), **({"quality": 95} if kind == "JPEG" else {"lossless": True})
    )


def mean_gap(a: RGB, b: RGB) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int32) - b.astype(np.int32)).mean())


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_pictures_come_back_exactly(kind: str, options: dict[str, object]) -> None:
    rgb = scene(37, 61)
    out = read_picture(encode(rgb, kind, **options))
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, rgb)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_decoded_as_rgb(progressive: bool) -> None:
    rgb = scene(120, 200)
    out = read_picture(encode(rgb, "JPEG", quality=95, progressive=progressive))
    assert mean_gap(out, rgb) < 3.0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    data = oriented(scene(48, 80), kind, orientation)
    with Image.open(io.BytesIO(data)) as image:
        want = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    out = read_picture(data)
    assert out.shape == ((80, 48, 3) if orientation >= 5 else (48, 80, 3))
    assert mean_gap(out, want) < 1.0


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decoding_keeps_the_source_size(orientation: int) -> None:
    data = oriented(scene(1080, 1920), "JPEG", orientation)
    picture = decode_picture(data, needed=within_416)
    upright = (1920, 1080) if orientation == 6 else (1080, 1920)
    assert (picture.source_height, picture.source_width) == upright
    assert picture.pixels.shape[0] * picture.pixels.shape[1] <= 1080 * 1920 / 4
    fitted = fit_size(*upright, 416, 416)
    assert picture.pixels.shape[0] >= fitted[0]
    assert picture.pixels.shape[1] >= fitted[1]


def test_reduced_decoding_gives_nearly_the_same_canvas() -> None:
    data = encode(scene(1000, 1500), "JPEG", quality=92)
    reduced = read_canvas(data, "image/jpeg", Square416())
    full = to_canvas(read_picture(data), Square416())
    assert (reduced.size.scale, reduced.source_height, reduced.source_width) == (
        (416 / 1500,) * 2,
        1000,
        1500,
    )
    assert mean_gap(reduced.pixels, full.pixels) < 1.0


def test_a_small_jpeg_is_enlarged_to_the_canvas() -> None:
    canvas = read_canvas(encode(scene(30, 50), "JPEG", quality=92), "image/jpeg", Square416())
    assert canvas.size.scale == (416 / 50, 416 / 50)
    assert (canvas.pixels[:249] != 114).any(axis=2).all(axis=1).all()
    assert (canvas.pixels[249:] == 114).all()


def test_a_jpeg_less_than_twice_the_canvas_is_decoded_whole() -> None:
    data = encode(scene(480, 640), "JPEG", quality=92)
    assert decode_picture(data, needed=within_416).pixels.shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("source", "fitted"),
    [
        ((480, 640), (312, 416)),
        ((427, 640), (277, 416)),  # 277.55: YOLOX cuts off, it does not round
        ((300, 451), (276, 416)),
        ((100, 50), (416, 208)),  # small pictures grow
        ((1, 16384), (1, 416)),  # never zero rows
        ((416, 416), (416, 416)),
    ],
)
def test_fitted_size_is_that_of_yolox(source: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit_size(*source, 416, 416) == fitted


def test_letterbox_fills_below_and_right() -> None:
    canvas = to_canvas(scene(100, 200), Square416(96, 128, fill=7))
    assert canvas.pixels.shape == (96, 128, 3)
    assert canvas.pixels.dtype == np.uint8
    assert canvas.size.scale == (128 / 200, 128 / 200)
    np.testing.assert_array_equal(canvas.pixels[:64], resize(scene(100, 200), 64, 128))
    assert (canvas.pixels[64:] == 7).all()


def test_letterbox_does_not_touch_pixels_of_the_right_size() -> None:
    rgb = scene(64, 96)
    np.testing.assert_array_equal(to_canvas(rgb, Square416(96, 96)).pixels[:64], rgb)


def test_resize_averages_what_it_shrinks() -> None:
    """Antialiased: a one-pixel checkerboard becomes grey instead of a sampled pattern."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    shrunk = resize(np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8), 16, 16)
    assert np.abs(shrunk[2:-2, 2:-2].astype(np.int32) - 127).max() <= 8


def test_alpha_is_laid_over_the_letterbox_grey() -> None:
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[:, :3] = (200, 10, 20, 255)
    out = read_picture(encode(rgba, "PNG"))
    assert (out[:, :3] == (200, 10, 20)).all()
    assert (out[:, 3:] == 114).all()


def test_palette_and_grey_pictures_become_rgb() -> None:
    grey = scene(8, 8)[:, :, 0]
    np.testing.assert_array_equal(read_picture(encode(grey, "PNG")), np.repeat(grey[:, :, None], 3, axis=2))
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (10, 200, 30), np.uint8)).quantize(4).save(buffer, "PNG")
    assert (read_picture(buffer.getvalue()) == (10, 200, 30)).all()
    assert read_picture(encode(grey, "JPEG")).shape == (8, 8, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    out = read_picture(encode(ramp, "PNG"))
    np.testing.assert_array_equal(out[0, :, 0], ramp[0] >> 8)


def test_damaged_exif_does_not_cost_the_frame() -> None:
    data = oriented(scene(32, 32), "JPEG", 6)
    at = data.index(b"Exif\x00\x00") + 6
    assert read_picture(data[:at] + b"\xff" * 8 + data[at + 8 :]).shape == (32, 32, 3)


SAMPLES = {
    "JPEG": encode(scene(40, 56), "JPEG", quality=80),
    "JPEG progressive": encode(scene(40, 56), "JPEG", quality=80, progressive=True),
    "PNG": encode(scene(40, 56), "PNG"),
    "WEBP": encode(scene(40, 56), "WEBP", quality=80),
    "WEBP lossless": encode(scene(40, 56), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_pictures_are_broken(name: str, keep: float) -> None:
    data = SAMPLES[name]
    with pytest.raises(BrokenFrame):
        read_picture(data[: max(12, int(len(data) * keep))])


@given(
    name=st.sampled_from(sorted(SAMPLES)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_damaged_bytes_give_a_picture_or_a_frame_error(name: str, edits: list[tuple[float, int]]) -> None:
    data = bytearray(SAMPLES[name])
    for where, value in edits:
        data[int(where * (len(data) - 1))] = value
    try:
        out = read_picture(bytes(data))
    except FrameError:
        return
    assert out.ndim == 3
    assert out.shape[2] == 3

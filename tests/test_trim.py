"""A trimmed canvas: it ends with the picture, and the canvas alone tells where the picture lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from splitcodec.bitstream import MAX_NETWORK_SIDE, MAX_SOURCE_SIDE, SIZE_MULTIPLE
from splitcodec.frame import frame_size, to_canvas
from splitcodec.packs import InputConvention
from splitcodec.packs.describe import describe
from splitcodec.placement import TRIM_MULTIPLE, FrameSize, fit_size, trimmed_size
from splitcodec.runtime.shapes import STRIDE, SizeRange
from splitcodec.tasks.deeplab import class_map
from splitcodec.tasks.yolox import boxes_to_source

SIDES = st.one_of(st.integers(1, 64), st.integers(1, MAX_SOURCE_SIDE))
BOX_SIDES = st.integers(1, MAX_NETWORK_SIDE // 32).map(lambda steps: 32 * steps)
SOURCES = {
    "4:3": (480, 640),
    "3:4": (640, 480),
    "16:9": (1080, 1920),
    "9:16": (1920, 1080),
    "square": (512, 512),
    "a line": (1, 1000),
    "a column": (1000, 1),
    "one pixel": (1, 1),
    "a strip": (32, 4096),
    "just over a step": (493, 640),  # fits 320.45 lines
    "floats would floor the full side": (90, 23),
}


def convention(trim: bool, height: int = 416, width: int = 416) -> InputConvention:
    return InputConvention(height=height, width=width, fit="letterbox", fill=114, trim=trim)


@pytest.mark.parametrize(
    ("source", "canvas"),
    [
        ("4:3", (320, 416)),
        ("3:4", (416, 320)),
        ("16:9", (256, 416)),
        ("9:16", (416, 256)),
        ("square", (416, 416)),
        ("a line", (32, 416)),
        ("a column", (416, 32)),
        ("one pixel", (416, 416)),
        ("a strip", (32, 416)),
        ("just over a step", (352, 416)),
    ],
)
def test_the_canvas_ends_with_the_picture(source: str, canvas: tuple[int, int]) -> None:
    size = frame_size(convention(True), *SOURCES[source])
    assert (size.network_height, size.network_width) == canvas


@given(height=SIDES, width=SIDES, box_height=BOX_SIDES, box_width=BOX_SIDES)
@example(1000, 1, 416, 416)
@example(1, 1, 416, 416)
@example(32, 4096, 416, 416)
@example(1920, 1080, 416, 416)
@example(1080, 1920, 416, 416)
@example(480, 640, 416, 416)
@example(512, 512, 416, 416)
@example(23, 23, 416, 416)
@example(90, 23, 416, 416)
@example(16384, 16383, 2048, 2048)
@example(493, 640, 416, 416)
@settings(max_examples=500)
def test_the_canvas_alone_tells_the_scale_and_the_pixels_of_the_box(
    height: int, width: int, box_height: int, box_width: int
) -> None:
    edge = FrameSize(height, width, box_height, box_width)
    trimmed = trimmed_size(height, width, box_height, box_width)
    cloud = FrameSize(height, width, *trimmed)
    assert cloud.scale == edge.scale  # bit for bit, floats as they are
    assert cloud.canvas_window == edge.canvas_window
    assert cloud.decoded_size == edge.decoded_size
    assert trimmed_size(height, width, *trimmed) == trimmed


@given(height=SIDES, width=SIDES, box_height=BOX_SIDES, box_width=BOX_SIDES)
def test_only_the_rounding_remainder_is_fill(
    height: int, width: int, box_height: int, box_width: int
) -> None:
    fitted = fit_size(height, width, box_height, box_width)
    trimmed = trimmed_size(height, width, box_height, box_width)
    for side, box, canvas in zip(fitted, (box_height, box_width), trimmed, strict=True):
        assert 1 <= side <= canvas <= box
        assert canvas - side <= TRIM_MULTIPLE
        assert canvas % TRIM_MULTIPLE == 0


@given(height=SIDES, width=SIDES, box_height=BOX_SIDES, box_width=BOX_SIDES)
@example(23, 23, 416, 416)  # 23 * (416 / 23) is less than 416 in floating point
def test_the_side_that_limits_is_the_boxs_own(
    height: int, width: int, box_height: int, box_width: int
) -> None:
    for found in (
        fit_size(height, width, box_height, box_width),
        trimmed_size(height, width, box_height, box_width),
    ):
        assert found[0] == box_height or found[1] == box_width


@pytest.mark.parametrize("source", SOURCES)
def test_the_picture_has_the_same_pixels_on_both_canvases(source: str) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (*SOURCES[source], 3), dtype=np.uint8)
    square, trimmed = (to_canvas(rgb, convention(trim)) for trim in (False, True))
    height, width = trimmed.pixels.shape[:2]
    np.testing.assert_array_equal(trimmed.pixels, square.pixels[:height, :width])
    assert (square.pixels[height:] == 114).all()
    assert (square.pixels[:, width:] == 114).all()


@given(height=SIDES, width=SIDES, corners=st.lists(st.floats(0, 416, width=32), min_size=4, max_size=4))
def test_boxes_come_back_to_the_same_source_pixels(height: int, width: int, corners: list[float]) -> None:
    square, trimmed = (frame_size(convention(trim), height, width) for trim in (False, True))
    boxes = np.array([corners], np.float32)
    np.testing.assert_array_equal(boxes_to_source(boxes, trimmed), boxes_to_source(boxes, square))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("source", [(480, 640), (360, 640), (640, 360), (300, 300), (3, 900)])
def test_a_class_map_of_a_trimmed_canvas_is_the_same(source: tuple[int, int], centred: bool) -> None:
    square, trimmed = (frame_size(convention(trim, 128, 128), *source) for trim in (False, True))
    logits = np.random.default_rng(5).normal(size=(3, 16, 16)).astype(np.float32)
    rows, columns = trimmed.network_height // 8, trimmed.network_width // 8
    whole = class_map(logits, square, *source, centred)
    part = class_map(np.ascontiguousarray(logits[:, :rows, :columns]), trimmed, *source, centred)
    assert part.shape == source
    # where the canvas ends the last cell goes on unchanged, instead of towards one of fill
    last = trimmed.network_height - 8, trimmed.network_width - 8
    down, across = (int(end / trimmed.scale[0]) for end in last)
    np.testing.assert_array_equal(part[:down, :across], whole[:down, :across])


def test_only_a_letterbox_may_be_trimmed() -> None:
    for fit in ("stretch", "crop"):
        with pytest.raises(ValidationError, match="only fit 'letterbox' leaves anything to trim"):
            InputConvention(height=64, width=64, fit=fit, fill=0, trim=True)


def test_a_manifest_that_does_not_trim_is_written_as_before() -> None:
    plain, trimmed = convention(False), convention(True)
    assert "trim" not in json.loads(plain.model_dump_json())
    assert json.loads(trimmed.model_dump_json())["trim"] is True
    for one in (plain, trimmed):
        assert InputConvention.model_validate_json(one.model_dump_json()) == one


def test_a_pack_says_that_it_trims(tmp_path: Path) -> None:
    assert not any("trimmed" in line for line in describe(tiny_pack.write_tiny_pack(tmp_path / "plain")))
    pack = tiny_pack.write_trimmed(tmp_path / "trimmed", 128, 128)
    assert any("input 128x128 letterbox, trimmed" in line for line in describe(pack))


def test_the_canvas_is_one_that_the_bitstream_carries() -> None:
    assert TRIM_MULTIPLE == SIZE_MULTIPLE


@pytest.mark.parametrize("box", [(416, 416), (800, 1344), (2048, 2048)])
def test_engines_are_built_for_every_trimmed_canvas(box: tuple[int, int]) -> None:
    sizes = SizeRange()
    shapes = {trimmed_size(*source, *box) for source in SOURCES.values()}
    for name, stride in STRIDE.items():
        small, _, large = sizes.profile(name, (-1, 8, -1, -1))
        for shape in shapes:
            cells = [-(-side // stride) for side in shape]
            assert all(
                low <= side <= high for low, side, high in zip(small[2:], cells, large[2:], strict=True)
            )

"""Boxes and labels drawn on pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from splitcodec.errors import BrokenFrame
from splitcodec.frame import Picture, read_picture
from splitcodec.overlay import class_colour, draw_overlay, overlay_jpeg
from splitcodec.tasks import Box, Detection

GREY = 90


def blank(height: int, width: int) -> Picture:
    return Picture(np.full((height, width, 3), GREY, np.uint8), height, width)


def found(x1: float, y1: float, x2: float, y2: float, class_id: int = 3, score: float = 0.9) -> Detection:
    return Detection("cat", class_id, score, Box(x1, y1, x2, y2))


def changed(jpeg: bytes) -> np.ndarray:
    return np.abs(read_picture(jpeg).astype(np.int32) - GREY).max(axis=2) > 40


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(np.int32) - colour).max() < 60)


def test_the_box_is_drawn_where_it_is_and_nowhere_else() -> None:
    touched = changed(draw_overlay(blank(200, 300), [found(100, 80, 220, 160)]))
    assert touched[81, 100:220].all()
    assert touched[80:160, 101].all()
    assert not touched[100:150, 115:205].any()  # the inside stays visible
    assert not touched[:, 230:].any()
    assert not touched[170:].any()


def test_the_box_has_the_colour_of_its_class() -> None:
    pixels = read_picture(draw_overlay(blank(400, 600), [found(100, 80, 420, 360, class_id=16)]))
    assert near(pixels[358, 300], class_colour(16))


def test_the_label_is_written_above_the_box_or_inside_at_the_top_edge() -> None:
    above = changed(draw_overlay(blank(200, 300), [found(100, 80, 220, 160)]))
    assert above[66:79, 102:112].any()
    inside = changed(draw_overlay(blank(200, 300), [found(100, 0, 220, 160)]))
    assert inside[4:14, 104:112].any()


def test_labels_stay_inside_the_picture() -> None:
    touched = changed(draw_overlay(blank(200, 300), [found(280, 80, 300, 160)]))
    assert touched[66:79, 258:278].any()  # left of where the box begins


def test_boxes_follow_a_picture_that_is_scaled_down() -> None:
    picture = Picture(np.full((500, 1000, 3), GREY, np.uint8), 2000, 4000)
    jpeg = draw_overlay(picture, [found(2000, 1000, 4000, 2000)], max_side=400)
    touched = changed(jpeg)
    assert touched.shape == (200, 400)
    assert touched[101, 205:395].all()
    assert not touched[:80, :].any()


def test_small_pictures_are_not_enlarged() -> None:
    assert read_picture(draw_overlay(blank(20, 30), [])).shape == (20, 30, 3)


def test_the_best_score_lies_on_top() -> None:
    weak, strong = found(10, 10, 90, 90, class_id=1, score=0.3), found(10, 10, 90, 90, class_id=2, score=0.8)
    for order in ([weak, strong], [strong, weak]):
        pixels = read_picture(draw_overlay(blank(100, 100), order))
        assert near(pixels[88, 50], class_colour(2))


def test_degenerate_boxes_do_not_fail() -> None:
    draw_overlay(blank(50, 50), [found(50, 50, 50, 50), found(0, 0, 0, 0), found(10, 10, 10.2, 10.1)])


def test_colours_of_eighty_classes_differ() -> None:
    assert len({class_colour(k) for k in range(80)}) == 80


def test_picture_bytes_go_in_and_jpeg_comes_out() -> None:
    buffer = io.BytesIO()
    Image.fromarray(blank(900, 1800).pixels).save(buffer, "JPEG")
    jpeg = overlay_jpeg(buffer.getvalue(), [found(900, 0, 1800, 900)], max_side=600)
    assert changed(jpeg).shape == (300, 600)
    assert changed(jpeg)[150:290, 301].all()
    with pytest.raises(BrokenFrame):
        overlay_jpeg(buffer.getvalue()[:300], [])

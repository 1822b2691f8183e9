"""Boxes, class maps and class names drawn on pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from splitcodec.errors import BrokenFrame
from splitcodec.frame import Picture, read_picture
from splitcodec.overlay import class_colour, draw_overlay, overlay_jpeg
from splitcodec.tasks import (
    Box,
    ClassScore,
    ClassScores,
    Detection,
    Detections,
    SegmentationMask,
    TaskAnswer,
)
from splitcodec.tasks.deeplab import as_runs

GREY = 90


def blank(height: int, width: int) -> Picture:
    return Picture(np.full((height, width, 3), GREY, np.uint8), height, width)


def found(x1: float, y1: float, x2: float, y2: float, class_id: int = 3, score: float = 0.9) -> Detection:
    return Detection("cat", class_id, score, Box(x1, y1, x2, y2))


def changed(jpeg: bytes) -> np.ndarray:
    return np.abs(read_picture(jpeg).astype(np.int32) - GREY).max(axis=2) > 40


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(np.int32) - colour).max() < 60)


def halves(left: int, right: int, labels: tuple[str, ...]) -> SegmentationMask:
    """A class map of two columns."""
    answer = as_runs(np.array([[left, right]], np.uint16), labels)
    assert answer is not None
    return answer


def scores(*labels: str) -> ClassScores:
    return ClassScores(tuple(ClassScore(label, k, 0.5) for k, label in enumerate(labels)))


def luminance(colour: np.ndarray | tuple[int, int, int]) -> float:
    """WCAG 2 relative luminance, 0..1."""
    values = np.asarray(colour, dtype=np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: np.ndarray | tuple[int, int, int], other: np.ndarray | tuple[int, int, int]) -> float:
    """WCAG 2 contrast ratio, 1..21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_box_is_drawn_where_it_is_and_nowhere_else() -> None:
    touched = changed(draw_overlay(blank(200, 300), Detections((found(100, 80, 220, 160),))))
    assert touched[81, 100:220].all()
    assert touched[80:160, 101].all()
    assert not touched[100:150, 115:205].any()  # the inside stays visible
    assert not touched[:, 230:].any()
    assert not touched[170:].any()


def test_the_box_has_the_colour_of_its_class() -> None:
    pixels = read_picture(draw_overlay(blank(400, 600), Detections((found(100, 80, 420, 360, class_id=16),))))
    assert near(pixels[358, 300], class_colour(16))


def test_the_label_is_written_above_the_box_or_inside_at_the_top_edge() -> None:
    above = changed(draw_overlay(blank(200, 300), Detections((found(100, 80, 220, 160),))))
    assert above[66:79, 102:112].any()
    inside = changed(draw_overlay(blank(200, 300), Detections((found(100, 0, 220, 160),))))
    assert inside[4:14, 104:112].any()


def test_labels_stay_inside_the_picture() -> None:
    touched = changed(draw_overlay(blank(200, 300), Detections((found(280, 80, 300, 160),))))
    assert touched[66:79, 258:278].any()  # left of where the box begins


def test_boxes_follow_a_picture_that_is_scaled_down() -> None:
    picture = Picture(np.full((500, 1000, 3), GREY, np.uint8), 2000, 4000)
    jpeg = draw_overlay(picture, Detections((found(2000, 1000, 4000, 2000),)), max_side=400)
    touched = changed(jpeg)
    assert touched.shape == (200, 400)
    assert touched[101, 205:395].all()
    assert not touched[:80, :].any()


def test_small_pictures_are_not_enlarged() -> None:
    assert read_picture(draw_overlay(blank(20, 30), Detections(()))).shape == (20, 30, 3)


def test_the_best_score_lies_on_top() -> None:
    weak, strong = found(10, 10, 90, 90, class_id=1, score=0.3), found(10, 10, 90, 90, class_id=2, score=0.8)
    for order in ([weak, strong], [strong, weak]):
        pixels = read_picture(draw_overlay(blank(100, 100), Detections(tuple(order))))
        assert near(pixels[88, 50], class_colour(2))


def test_degenerate_boxes_do_not_fail() -> None:
    draw_overlay(
        blank(50, 50),
        Detections(
            (
                found(50, 50, 50, 50),
                found(0, 0, 0, 0),
                found(10, 10, 10.2, 10.1),
            )
        ),
    )


def test_colours_of_eighty_classes_differ() -> None:
    assert len({class_colour(k) for k in range(80)}) == 80


def test_picture_bytes_go_in_and_jpeg_comes_out() -> None:
    buffer = io.BytesIO()
    Image.fromarray(blank(900, 1800).pixels).save(buffer, "JPEG")
    jpeg = overlay_jpeg(buffer.getvalue(), Detections((found(900, 0, 1800, 900),)), max_side=600)
    assert changed(jpeg).shape == (300, 600)
    assert changed(jpeg)[150:290, 301].all()
    with pytest.raises(BrokenFrame):
        overlay_jpeg(buffer.getvalue()[:300], Detections(()))


@pytest.mark.slow
def test_labels_on_boxes_can_be_read_in_every_colour() -> None:
    for class_id in range(80):
        answer = Detections((found(40, 80, 300, 190, class_id),))
        label = read_picture(draw_overlay(blank(200, 320), answer))[68:78, 43:75].reshape(-1, 3)
        assert max(contrast(ink, class_colour(class_id)) for ink in label) >= 4.5, class_id


def test_a_class_map_tints_its_classes_and_leaves_the_background() -> None:
    pixels = read_picture(draw_overlay(blank(200, 320), halves(0, 2, ("background", "cat", "dog"))))
    tint = 0.45 * GREY + 0.55 * np.array(class_colour(2))
    assert np.abs(pixels[100:, :155].astype(float) - GREY).max() < 12
    assert np.abs(pixels[100:, 165:].astype(float) - tint).max() < 12


def test_every_class_is_tinted_where_none_is_the_background() -> None:
    pixels = read_picture(draw_overlay(blank(200, 320), halves(0, 1, ("sky", "ground"))))
    for class_id, part in ((0, pixels[100:, :155]), (1, pixels[100:, 165:])):
        tint = 0.45 * GREY + 0.55 * np.array(class_colour(class_id))
        assert np.abs(part.astype(float) - tint).max() < 12


def test_a_class_map_follows_a_picture_that_is_scaled_down() -> None:
    picture = Picture(np.full((500, 1000, 3), GREY, np.uint8), 2000, 4000)
    answer = halves(0, 1, ("background", "cat"))
    touched = changed(draw_overlay(picture, answer, max_side=400))
    assert touched.shape == (200, 400)
    assert touched[100:, 202:].all()
    assert not touched[100:, :198].any()


@pytest.mark.parametrize("grey", [0, 90, 255])
@pytest.mark.parametrize("answer", [halves(0, 1, ("background", "dog")), scores("dog", "cat")])
def test_names_can_be_read_on_any_picture(answer: TaskAnswer, grey: int) -> None:
    picture = Picture(np.full((400, 600, 3), grey, np.uint8), 400, 600)
    line = read_picture(draw_overlay(picture, answer))[2:18, 24:50].reshape(-1, 3)
    brightness = line.astype(int).sum(axis=1)
    assert contrast(line[brightness.argmax()], line[brightness.argmin()]) >= 7.0


def test_each_name_stands_behind_the_colour_of_its_class() -> None:
    pixels = read_picture(draw_overlay(blank(400, 600), scores("owl", "tench, Tinca tinca", "cat")))
    squares = [row for row in range(120) if near(pixels[row, 8], (20, 20, 20))]
    assert squares  # paper between the squares
    swatches = [pixels[start + 5, 9] for start in (2, 20, 38)]
    assert all(near(swatch, class_colour(k)) for k, swatch in enumerate(swatches))


def test_the_background_and_what_is_beyond_eight_classes_are_not_named() -> None:
    def rows_of_paper(answer: TaskAnswer) -> int:
        column = read_picture(draw_overlay(blank(400, 600), answer))[:, 1].astype(int)
        return int((np.abs(column - 20).max(axis=1) < 30).sum())

    one = rows_of_paper(scores("a"))
    assert one > 10
    assert rows_of_paper(halves(0, 1, ("background", "cat"))) == pytest.approx(one, abs=3)
    assert rows_of_paper(halves(0, 0, ("background",))) == 0
    eight = rows_of_paper(scores(*"abcdefgh"))
    assert eight > 7 * (one - 4)
    assert rows_of_paper(scores(*"abcdefghij")) == eight


def test_no_class_leaves_the_picture_as_it_is() -> None:
    assert not changed(draw_overlay(blank(60, 80), ClassScores(()))).any()

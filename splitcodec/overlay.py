"""A task's answer drawn on the picture it is about, as a JPEG."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from splitcodec.frame import RGB, Picture, decode_picture, resize
from splitcodec.picture import DEFAULT_LIMITS, PictureLimits
from splitcodec.placement import fit_size
from splitcodec.tasks import TaskAnswer
from splitcodec.tasks.drawing import LegendRow, MarkedBox, Tint

MAX_OVERLAY_SIDE: Final = 1280
"""Longest side of an overlay in pixels; larger pictures are scaled down."""
_GOLDEN_RATIO: Final = 0.618033988749895  # steps of this fraction of the colour circle never come close again
_QUALITY: Final = 85
_MASK_OPACITY: Final = 0.55
_LEGEND_ROWS: Final = 8
_PAPER: Final = (20, 20, 20)

Colour = tuple[int, int, int]


def overlay_jpeg(
    data: bytes,
    answer: TaskAnswer,
    limits: PictureLimits = DEFAULT_LIMITS,
    max_side: int = MAX_OVERLAY_SIDE,
) -> bytes:
    """Decode a picture, draw a task's answer on it, and encode it as JPEG with its longest side <= max_side.

    Errors as for splitcodec.frame.read_picture.
    """
    picture = decode_picture(
        data, None, limits, needed=lambda height, width: fit_size(height, width, max_side, max_side)
    )
    return draw_overlay(picture, answer, max_side)


def draw_overlay(picture: Picture, answer: TaskAnswer, max_side: int = MAX_OVERLAY_SIDE) -> bytes:
    """An answer over its picture, as JPEG bytes; of boxes (in source pixels) the best score lies on top."""
    source = (picture.source_height, picture.source_width)
    height, width = fit_size(*source, min(max_side, source[0]), min(max_side, source[1]))
    pixels = resize(picture.pixels, height, width)
    drawing = answer.drawing()
    if drawing.tint is not None:
        pixels = _tinted(pixels, drawing.tint)
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    longest = max(height, width)
    font = ImageFont.load_default(size=max(11, longest // 45))
    style = _Style(width / source[1], height / source[0], width, max(2, longest // 300), font)
    for box in drawing.boxes:
        _draw(pen, box, style)
    _draw_legend(pen, drawing.legend[:_LEGEND_ROWS], style)
    return bytes(simplejpeg.encode_jpeg(np.asarray(image), quality=_QUALITY))


def class_colour(class_id: int) -> Colour:
    """A bright colour (red, green, blue, each 0..255) that stays the same for a class."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1.0, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


@dataclass(frozen=True)
class _Style:
    """Drawn pixels per source pixel, and the sizes of what is drawn, in drawn pixels."""

    scale_x: float
    scale_y: float
    width: int
    stroke: int
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont


def _tinted(pixels: RGB, tint: Tint) -> RGB:
    """[h, w, 3] with every class but the plain ones in its colour, where the picture shines through."""
    height, width = pixels.shape[:2]
    whole = tint.class_map()
    rows = (np.arange(height) * whole.shape[0]) // height
    columns = (np.arange(width) * whole.shape[1]) // width
    colours = np.zeros((int(whole.max()) + 1, 3), np.float32)
    opacity = np.zeros((len(colours), 1), np.float32)
    for class_id in set(np.unique(whole).tolist()) - tint.plain:
        colours[class_id], opacity[class_id] = class_colour(class_id), _MASK_OPACITY
    classes = whole[rows[:, None], columns[None, :]]
    cover = opacity[classes]
    mixed: RGB = (pixels * (1.0 - cover) + colours[classes] * cover).round().astype(np.uint8)
    return mixed


def _draw_legend(pen: ImageDraw.ImageDraw, rows: Sequence[LegendRow], style: _Style) -> None:
    """One line per row on dark paper in the top-left corner, each behind a square of its colour."""
    if not rows:
        return
    stroke, font = style.stroke, style.font
    boxes = [pen.textbbox((0, 0), row.text, font=font) for row in rows]
    line = round(max(box[3] for box in boxes)) + 2 * stroke
    wide = max(box[2] for box in boxes) + line + 2 * stroke
    pen.rectangle((0, 0, wide, line * len(rows) + stroke), fill=_PAPER)
    for number, row in enumerate(rows):
        top = number * line + stroke
        pen.rectangle((stroke, top, line - stroke, top + line - 2 * stroke), fill=class_colour(row.class_id))
        pen.text((line + stroke, top), row.text, fill=(255, 255, 255), font=font)


def _draw(pen: ImageDraw.ImageDraw, marked: MarkedBox, style: _Style) -> None:
    stroke, font, text, colour = style.stroke, style.font, marked.text, class_colour(marked.class_id)
    x1, x2 = marked.box.x1 * style.scale_x, marked.box.x2 * style.scale_x
    y1, y2 = marked.box.y1 * style.scale_y, marked.box.y2 * style.scale_y
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=stroke)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    text_width, text_height = right - left + 2 * stroke, bottom - top + 2 * stroke
    # Above the box, or inside it at the upper edge of the picture; shifted left at its right edge.
    label_x = max(0.0, min(x1, style.width - text_width))
    label_y = y1 - text_height if y1 >= text_height else y1
    pen.rectangle((label_x, label_y, label_x + text_width, label_y + text_height), fill=colour)
    pen.text((label_x + stroke - left, label_y + stroke - top), text, fill=_ink_on(colour), font=font)


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more (WCAG relative luminance; the two are level at 0.179)."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else (255, 255, 255)

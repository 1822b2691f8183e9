"""Detections drawn on the picture they were found in, as a JPEG."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from splitcodec.frame import Picture, decode_picture, fit_size, resize
from splitcodec.picture import DEFAULT_LIMITS, PictureLimits
from splitcodec.tasks import Detection

MAX_OVERLAY_SIDE: Final = 1280
"""Longest side of an overlay in pixels; larger pictures are scaled down."""
_GOLDEN_RATIO: Final = 0.618033988749895  # steps of this fraction of the colour circle never come close again
_QUALITY: Final = 85

Colour = tuple[int, int, int]


def overlay_jpeg(
    data: bytes,
    detections: Sequence[Detection],
    limits: PictureLimits = DEFAULT_LIMITS,
    max_side: int = MAX_OVERLAY_SIDE,
) -> bytes:
    """Decode a picture, draw boxes and labels on it, and encode it as JPEG with its longest side <= max_side.

    Errors as for splitcodec.frame.read_picture.
    """
    return draw_overlay(
        decode_picture(data, None, limits, fit_within=(max_side, max_side)), detections, max_side
    )


def draw_overlay(
    picture: Picture, detections: Sequence[Detection], max_side: int = MAX_OVERLAY_SIDE
) -> bytes:
    """Boxes (in source pixels) and labels over a picture, as JPEG bytes; the best score lies on top."""
    source = (picture.source_height, picture.source_width)
    height, width = fit_size(*source, min(max_side, source[0]), min(max_side, source[1]))
    image = Image.fromarray(resize(picture.pixels, height, width))
    pen = ImageDraw.Draw(image)
    longest = max(height, width)
    font = ImageFont.load_default(size=max(11, longest // 45))
    style = _Style(width / source[1], height / source[0], width, max(2, longest // 300), font)
    for detection in sorted(detections, key=lambda item: item.score):
        _draw(pen, detection, style)
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


def _draw(pen: ImageDraw.ImageDraw, detection: Detection, style: _Style) -> None:
    stroke, font = style.stroke, style.font
    x1, x2 = detection.box.x1 * style.scale_x, detection.box.x2 * style.scale_x
    y1, y2 = detection.box.y1 * style.scale_y, detection.box.y2 * style.scale_y
    colour = class_colour(detection.class_id)
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=stroke)
    text = f"{detection.label} {detection.score:.2f}"
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    text_width, text_height = right - left + 2 * stroke, bottom - top + 2 * stroke
    # Above the box, or inside it at the upper edge of the picture; shifted left at its right edge.
    label_x = max(0.0, min(x1, style.width - text_width))
    label_y = y1 - text_height if y1 >= text_height else y1
    pen.rectangle((label_x, label_y, label_x + text_width, label_y + text_height), fill=colour)
    pen.text((label_x + stroke - left, label_y + stroke - top), text, fill=_ink_on(colour), font=font)


def _ink_on(colour: Colour) -> Colour:
    """Black on light colours, white on dark ones (ITU-R BT.601 luma)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if luma > 140 else (255, 255, 255)

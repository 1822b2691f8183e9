"""Where a picture lies on the network's canvas, and back: one geometry for the edge and the cloud.

letterbox  scaled to fit, both sides alike, top-left corner; the rest of the canvas is fill (YOLOX's geometry)
           trimmed: the canvas ends with the picture, but for what makes its sides multiples of 32
stretch    the whole picture on the whole canvas, each side scaled on its own (DeepLab's)
crop       the largest centred window of the canvas's shape, times `crop`, on the whole canvas (ImageNet's)

Sides are computed in whole numbers. A trimmed side is rounded up from the exact quotient, not from the fitted
pixels, so the side that limits the scale is the same for the box and for the canvas cut out of it: the cloud,
which knows the canvas alone, finds the edge's scale and pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Fit = Literal["letterbox", "stretch", "crop"]
TRIM_MULTIPLE: Final = 32  # of the sides of a trimmed canvas: what the graphs take, see splitcodec.bitstream


@dataclass(frozen=True)
class Window:
    """A rectangle in whole pixels, at least 1 x 1."""

    top: int
    left: int
    height: int
    width: int


def fit_size(source_height: int, source_width: int, height: int, width: int) -> tuple[int, int]:
    """Size (height, width) a source picture has once it fits height x width; each at least 1.

    The side that limits the scale is the box's own, the other is cut to whole pixels.
    """
    if height * source_width <= width * source_height:
        return height, max(1, source_width * height // source_height)
    return max(1, source_height * width // source_width), width


def trimmed_size(source_height: int, source_width: int, height: int, width: int) -> tuple[int, int]:
    """Size (height, width) of the least canvas with sides of whole 32 pixels that a letterbox needs.

    height, width: of the box the picture is fitted into, multiples of 32. Whoever fits the picture into the
    canvas gets the pixels and the scale that the box gives.
    """
    if height * source_width <= width * source_height:
        return height, _whole_steps(source_width * height, source_height)
    return _whole_steps(source_height * width, source_width), width


def _whole_steps(pixels: int, over: int) -> int:
    """pixels / over, rounded up to a multiple of TRIM_MULTIPLE."""
    return -(-pixels // (over * TRIM_MULTIPLE)) * TRIM_MULTIPLE


@dataclass(frozen=True)
class FrameSize:
    """The two sizes of one frame in pixels, the picture as it was posted and its canvas, and how it fits.

    crop: share of the largest centred window that `fit="crop"` keeps, in (0, 1]; without meaning otherwise.
    """

    source_height: int
    source_width: int
    network_height: int
    network_width: int
    fit: Fit = "letterbox"
    crop: float = 1.0

    @property
    def source_window(self) -> Window:
        """The part of the source picture that is on the canvas."""
        if self.fit != "crop":
            return Window(0, 0, self.source_height, self.source_width)
        scale = min(self.source_height / self.network_height, self.source_width / self.network_width)
        height = max(1, round(scale * self.network_height * self.crop))
        width = max(1, round(scale * self.network_width * self.crop))
        return Window((self.source_height - height) // 2, (self.source_width - width) // 2, height, width)

    @property
    def canvas_window(self) -> Window:
        """The part of the canvas that shows the picture; the rest is fill."""
        if self.fit != "letterbox":
            return Window(0, 0, self.network_height, self.network_width)
        height, width = fit_size(
            self.source_height, self.source_width, self.network_height, self.network_width
        )
        return Window(0, 0, height, width)

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels per source pixel, down and across; the same in both for a letterbox."""
        if self.fit == "letterbox":
            same = min(self.network_height / self.source_height, self.network_width / self.source_width)
            return same, same
        window = self.source_window
        return self.network_height / window.height, self.network_width / window.width

    @property
    def decoded_size(self) -> tuple[int, int]:
        """The least (height, width) a picture may be decoded to without losing pixels of the canvas."""
        seen, shown = self.source_window, self.canvas_window
        return (
            math.ceil(self.source_height * shown.height / seen.height),
            math.ceil(self.source_width * shown.width / seen.width),
        )

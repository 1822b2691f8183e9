"""Importance maps for people: what steered the bits of a frame, as two numbers and as a picture.

The maps (the information selector of Prompt-ICM) multiply the latent on the edge before rounding: above 1
a place gets more bits, below 1 fewer. They are never sent. A selector that learned a constant has a spread of
nearly 0 and is a defect.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitcodec.frame import Canvas

CELL: Final = 16  # canvas pixels per position of a map
_SHADE: Final = 0.75  # how much of a picture's brightness the least important place loses
_FLAT: Final = 1e-6


@dataclass(frozen=True)
class ImportanceStats:
    """mean: over all maps and places, 1 where a prompt leaves the bits alone; spread: standard deviation."""

    mean: float
    spread: float


def importance_stats(maps: NDArray[np.float32]) -> ImportanceStats:
    """maps: float32 [M, H/16, W/16], as in EncodedFrame.importance."""
    return ImportanceStats(float(maps.mean()), float(maps.std()))


def importance_png(canvas: Canvas, maps: NDArray[np.float32]) -> bytes:
    """The picture of a canvas, dark where its maps (mean over M) are low, as PNG of the picture's own size.

    Shades span the frame's own range: the most important place is left as bright as it is.
    """
    shown = canvas.size.canvas_window
    picture = canvas.pixels[: shown.height, : shown.width].astype(np.float32)
    mean = maps.mean(axis=0)
    span = float(mean.max() - mean.min())
    level = np.ones_like(mean) if span < _FLAT else (mean - mean.min()) / span
    rows, columns = level.shape
    smooth = Image.fromarray(level).resize((columns * CELL, rows * CELL), Image.Resampling.BICUBIC)
    bright = np.clip(np.asarray(smooth)[: shown.height, : shown.width, None], 0.0, 1.0)
    shaded = np.rint(picture * (1.0 - _SHADE * (1.0 - bright))).astype(np.uint8)
    window = canvas.size.source_window
    buffer = io.BytesIO()
    Image.fromarray(shaded).resize((window.width, window.height), Image.Resampling.BILINEAR).save(
        buffer, "PNG"
    )
    return buffer.getvalue()

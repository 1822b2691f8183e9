"""A sequence of pictures as a camera would see them: slow pans over photos, with a cut now and then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW: Final = 0.75  # of the photo's height and width is seen at once
PAN_S: Final = 16.0  # one way around the photo
CUT_S: Final = 15.0  # each photo is seen this long


def panned(photos: Sequence[NDArray[np.uint8]], seconds: float, fps: float) -> Iterator[NDArray[np.uint8]]:
    """fps * seconds crops, uint8 [h, w, 3], of the photos in turn; the same every time."""
    for index in range(round(seconds * fps)):
        at = index / fps
        photo = photos[int(at / CUT_S) % len(photos)]
        height, width = photo.shape[:2]
        rows, columns = round(WINDOW * height), round(WINDOW * width)
        angle = 2 * math.pi * at / PAN_S
        top = round((height - rows) * (0.5 + 0.5 * math.sin(angle)))
        left = round((width - columns) * (0.5 + 0.5 * math.cos(0.7 * angle)))
        yield photo[top : top + rows, left : left + columns]

"""What an answer puts on its picture, as data; `splitcodec.overlay` draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels: 0 <= x1 <= x2 <= width, 0 <= y1 <= y2 <= height; x right, y down."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class MarkedBox:
    """A box with a text in its corner, in the colour of a class."""

    box: Box
    text: str
    class_id: int


@dataclass(frozen=True)
class Tint:
    """class_map: gives [h, w], the class of each pixel of a picture; plain: classes without colour."""

    class_map: Callable[[], NDArray[np.uint16]]
    plain: frozenset[int]


@dataclass(frozen=True)
class LegendRow:
    """A line of text behind a square in the colour of a class."""

    text: str
    class_id: int


@dataclass(frozen=True)
class Drawing:
    """What is drawn, from below: a tint, boxes, a legend; of the boxes the last one lies on top."""

    tint: Tint | None = None
    boxes: tuple[MarkedBox, ...] = ()
    legend: tuple[LegendRow, ...] = ()

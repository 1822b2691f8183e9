"""The typed answers of tasks: boxes, a class map, or class scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed

MAX_MAP_SIDE: Final = 1024
"""Longest side of a class map in pixels; the maps of larger pictures are coarser than the picture."""
MAX_MAP_RUNS: Final = 1 << 16
"""Runs a class map may have; one with more is sent at half the size, so an answer stays below 400 KB."""


@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels: 0 <= x1 <= x2 <= width, 0 <= y1 <= y2 <= height; x right, y down."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Detection:
    """One object: its label, the label's index in the pack's list, a score in [0, 1] and where it is."""

    label: str
    class_id: int
    score: float
    box: Box


@dataclass(frozen=True)
class DetectionResult:
    """The answer of a detection task for one frame, best score first."""

    detections: tuple[Detection, ...]


@dataclass(frozen=True)
class ClassShare:
    """A class of a class map and the share of the picture it covers, above 0 up to 1."""

    label: str
    class_id: int
    share: float


@dataclass(frozen=True)
class SegmentationResult:
    """The answer of a segmentation task for one frame: the class of every pixel, as runs.

    height, width: of the map, which covers the whole source picture and has its size or is smaller (at most
    MAX_MAP_SIDE); run_classes, run_lengths: class and number of pixels of each run, row by row from the top
    left, going on across the ends of rows; classes: those on the map, largest share first.
    """

    height: int
    width: int
    run_classes: tuple[int, ...]
    run_lengths: tuple[int, ...]
    classes: tuple[ClassShare, ...]

    def class_map(self) -> NDArray[np.uint16]:
        """[height, width] class of each pixel."""
        classes = np.asarray(self.run_classes, dtype=np.uint16)
        lengths = np.asarray(self.run_lengths, dtype=np.int64)
        return np.repeat(classes, lengths).reshape(self.height, self.width)


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability by softmax, 0..1."""

    label: str
    class_id: int
    score: float


@dataclass(frozen=True)
class ClassificationResult:
    """The answer of a classification task for one frame: the best classes, highest score first."""

    classes: tuple[ClassScore, ...]


TaskAnswer = DetectionResult | SegmentationResult | ClassificationResult
"""What a task says about one frame."""


@dataclass(frozen=True)
class ResultLimits:
    """What is kept of an answer.

    score_threshold: detections below it are dropped, 0..1; iou_threshold: of their per-class suppression;
    max_detections: the best ones kept per frame; top_classes: classes a classification names.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.65
    max_detections: int = 100
    top_classes: int = 5


def the_output(outputs: Mapping[str, NDArray[np.float32]], name: str, axes: str) -> NDArray[np.float32]:
    """Output `name` of a tail for one frame, without its batch axis; axes: like `[1, classes, h, w]`.

    GraphFailed if it is missing, has another rank, more than one frame, or nothing in it.
    """
    value = outputs.get(name)
    if value is None:
        raise GraphFailed(f"the tail gave {sorted(outputs)}; this task needs {name} {axes}")
    if value.ndim != axes.count(",") + 1 or value.shape[0] != 1 or not value.size:
        raise GraphFailed(f"{name} has shape {value.shape}; expected {axes}, one frame")
    return np.asarray(value[0], dtype=np.float32)


def check_labels(classes: int, labels: Sequence[str]) -> None:
    """GraphFailed unless the tail scores as many classes as the manifest labels."""
    if classes != len(labels):
        raise GraphFailed(
            f"the tail scores {classes} classes, the manifest labels {len(labels)}; re-export it"
        )

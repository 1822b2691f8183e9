"""A class map: the answer of a segmentation task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import CloudRefused
from splitcodec.tasks.answer import Named, TaskAnswer, Tensor, TensorKind
from splitcodec.tasks.drawing import Drawing, LegendRow, Tint
from splitcodec.wire.v1 import results_pb2

MAX_MAP_SIDE: Final = 1024
"""Longest side of a class map in pixels; the maps of larger pictures are coarser than the picture."""
MAX_MAP_RUNS: Final = 1 << 16
"""Runs a class map may have; one with more is sent at half the size, so an answer stays below 400 KB."""
BACKGROUND: Final = "background"
"""A class of this name is nothing that was found."""


@dataclass(frozen=True)
class ClassShare:
    """A class of a class map and the share of the picture it covers, above 0 up to 1."""

    label: str
    class_id: int
    share: float


@dataclass(frozen=True)
class SegmentationMask(TaskAnswer):
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

    kind = "segmentation"
    tensor_kinds = (
        TensorKind("labels", "BYTES", (-1,)),
        TensorKind("class_ids", "INT32", (-1,)),
        TensorKind("shares", "FP32", (-1,)),
        TensorKind("class_map", "UINT16", (-1, -1)),
    )

    def class_map(self) -> NDArray[np.uint16]:
        """[height, width] class of each pixel."""
        classes = np.asarray(self.run_classes, dtype=np.uint16)
        lengths = np.asarray(self.run_lengths, dtype=np.int64)
        return np.repeat(classes, lengths).reshape(self.height, self.width)

    @property
    def named(self) -> tuple[Named, ...]:
        """See TaskAnswer."""
        return tuple(Named(one.label, one.share) for one in self.classes)

    @property
    def headline(self) -> tuple[Named, ...]:
        """See TaskAnswer."""
        return tuple(one for one in self.named if one.label != BACKGROUND)

    def drawing(self) -> Drawing:
        """See TaskAnswer."""
        found = [one for one in self.classes if one.label != BACKGROUND]
        plain = frozenset(one.class_id for one in self.classes if one.label == BACKGROUND)
        legend = tuple(LegendRow(f"{one.label} {one.share:.0%}", one.class_id) for one in found)
        return Drawing(Tint(self.class_map, plain), legend=legend)

    def tensors(self) -> tuple[Tensor, ...]:
        """See TaskAnswer."""
        return (
            [one.label for one in self.classes],
            np.array([one.class_id for one in self.classes], "<i4"),
            np.array([one.share for one in self.classes], "<f4"),
            self.class_map().astype("<u2"),
        )

    def as_json(self) -> SegmentationMask:
        """See TaskAnswer."""
        return self

    @classmethod
    def of_json(cls, value: SegmentationMask) -> SegmentationMask:
        """See TaskAnswer."""
        return value

    def put(self, message: results_pb2.TaskResult) -> None:
        """See TaskAnswer."""
        message.segmentation.CopyFrom(
            results_pb2.Segmentation(
                height=self.height,
                width=self.width,
                run_classes=self.run_classes,
                run_lengths=self.run_lengths,
                classes=[
                    results_pb2.ClassShare(label=one.label, class_id=one.class_id, share=one.share)
                    for one in self.classes
                ],
            )
        )

    @classmethod
    def get(cls, message: results_pb2.TaskResult) -> SegmentationMask:
        """See TaskAnswer; what the message claims is checked before memory is taken."""
        mask = message.segmentation
        _check(mask)
        return cls(
            mask.height,
            mask.width,
            tuple(mask.run_classes),
            tuple(mask.run_lengths),
            tuple(ClassShare(one.label, one.class_id, one.share) for one in mask.classes),
        )


SegmentationMask.json_type = SegmentationMask


def _check(mask: results_pb2.Segmentation) -> None:
    """CloudRefused unless the runs are those of a map of that size."""
    runs, pixels = len(mask.run_classes), sum(mask.run_lengths)
    if (
        not 0 < mask.height <= MAX_MAP_SIDE
        or not 0 < mask.width <= MAX_MAP_SIDE
        or runs > MAX_MAP_RUNS
        or runs != len(mask.run_lengths)
        or pixels != mask.height * mask.width
        or max(mask.run_classes) >= 1 << 16
    ):
        raise CloudRefused(
            f"the cloud gave a class map of {mask.height}x{mask.width} with {runs} runs of {pixels} pixels; "
            f"a map has sides up to {MAX_MAP_SIDE}, at most {MAX_MAP_RUNS} runs and a class for each pixel: "
            "update both"
        )

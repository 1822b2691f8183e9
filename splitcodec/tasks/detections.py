"""Boxes: the answer of a detection task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitcodec.tasks.answer import Named, TaskAnswer, Tensor, TensorKind
from splitcodec.tasks.drawing import Box, Drawing, MarkedBox
from splitcodec.wire.v1 import results_pb2


@dataclass(frozen=True)
class Detection:
    """One object: its label, the label's index in the pack's list, a score in [0, 1] and where it is."""

    label: str
    class_id: int
    score: float
    box: Box


@dataclass(frozen=True)
class Detections(TaskAnswer):
    """The answer of a detection task for one frame, best score first."""

    detections: tuple[Detection, ...]

    kind = "detections"
    json_type = tuple[Detection, ...]
    tensor_kinds = (
        TensorKind("labels", "BYTES", (-1,)),
        TensorKind("class_ids", "INT32", (-1,)),
        TensorKind("scores", "FP32", (-1,)),
        TensorKind("boxes", "FP32", (-1, 4)),
    )

    @property
    def named(self) -> tuple[Named, ...]:
        """See TaskAnswer; a label for each box."""
        return tuple(Named(one.label, one.score) for one in self.detections)

    @property
    def objects(self) -> int:
        """See TaskAnswer."""
        return len(self.detections)

    def drawing(self) -> Drawing:
        """See TaskAnswer."""
        rising = sorted(self.detections, key=lambda one: one.score)
        return Drawing(
            boxes=tuple(MarkedBox(one.box, f"{one.label} {one.score:.2f}", one.class_id) for one in rising)
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """See TaskAnswer."""
        boxes = [(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in self.detections]
        return (
            [one.label for one in self.detections],
            np.array([one.class_id for one in self.detections], "<i4"),
            np.array([one.score for one in self.detections], "<f4"),
            np.array(boxes, "<f4").reshape(-1, 4),
        )

    def as_json(self) -> tuple[Detection, ...]:
        """See TaskAnswer."""
        return self.detections

    @classmethod
    def of_json(cls, value: tuple[Detection, ...]) -> Detections:
        """See TaskAnswer."""
        return cls(value)

    def put(self, message: results_pb2.TaskResult) -> None:
        """See TaskAnswer."""
        message.detections.SetInParent()  # nothing found is an answer too
        message.detections.items.extend(_message(one) for one in self.detections)

    @classmethod
    def get(cls, message: results_pb2.TaskResult) -> Detections:
        """See TaskAnswer."""
        return cls(tuple(_detection(item) for item in message.detections.items))


def _message(one: Detection) -> results_pb2.Detection:
    box = results_pb2.Box(x1=one.box.x1, y1=one.box.y1, x2=one.box.x2, y2=one.box.y2)
    return results_pb2.Detection(label=one.label, class_id=one.class_id, score=one.score, box=box)


def _detection(item: results_pb2.Detection) -> Detection:
    box = Box(item.box.x1, item.box.y1, item.box.x2, item.box.y2)
    return Detection(item.label, item.class_id, item.score, box)

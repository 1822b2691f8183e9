"""Class scores: the answer of a classification task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitcodec.tasks.answer import Named, TaskAnswer, Tensor, TensorKind
from splitcodec.tasks.drawing import Drawing, LegendRow
from splitcodec.wire.v1 import results_pb2


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability by softmax, 0..1."""

    label: str
    class_id: int
    score: float


@dataclass(frozen=True)
class ClassScores(TaskAnswer):
    """The answer of a classification task for one frame: the best classes, highest score first."""

    classes: tuple[ClassScore, ...]

    kind = "classification"
    tensor_kinds = (
        TensorKind("labels", "BYTES", (-1,)),
        TensorKind("class_ids", "INT32", (-1,)),
        TensorKind("scores", "FP32", (-1,)),
    )

    @property
    def named(self) -> tuple[Named, ...]:
        """See TaskAnswer."""
        return tuple(Named(one.label, one.score) for one in self.classes)

    @property
    def headline(self) -> tuple[Named, ...]:
        """See TaskAnswer; of several names of a class the first."""
        return tuple(Named(_short(one.label), one.score) for one in self.classes)

    def drawing(self) -> Drawing:
        """See TaskAnswer."""
        rows = (LegendRow(f"{_short(one.label)} {one.score:.2f}", one.class_id) for one in self.classes)
        return Drawing(legend=tuple(rows))

    def tensors(self) -> tuple[Tensor, ...]:
        """See TaskAnswer."""
        return (
            [one.label for one in self.classes],
            np.array([one.class_id for one in self.classes], "<i4"),
            np.array([one.score for one in self.classes], "<f4"),
        )

    def as_json(self) -> ClassScores:
        """See TaskAnswer."""
        return self

    @classmethod
    def of_json(cls, value: ClassScores) -> ClassScores:
        """See TaskAnswer."""
        return value

    def put(self, message: results_pb2.TaskResult) -> None:
        """See TaskAnswer."""
        message.classification.SetInParent()
        message.classification.classes.extend(
            results_pb2.ClassScore(label=one.label, class_id=one.class_id, score=one.score)
            for one in self.classes
        )

    @classmethod
    def get(cls, message: results_pb2.TaskResult) -> ClassScores:
        """See TaskAnswer."""
        found = message.classification.classes
        return cls(tuple(ClassScore(one.label, one.class_id, one.score) for one in found))


ClassScores.json_type = ClassScores


def _short(label: str) -> str:
    return label.partition(",")[0]

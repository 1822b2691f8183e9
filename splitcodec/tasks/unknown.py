"""An answer of a kind that this version does not know: kept as it came, and shown as such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitcodec.tasks.answer import Named, TaskAnswer, Tensor, TensorKind
from splitcodec.tasks.drawing import Drawing, LegendRow
from splitcodec.wire.v1.results_pb2 import TaskResult


@dataclass(frozen=True)
class UnknownAnswer(TaskAnswer):
    """kind_name: as its maker calls it, or the number of its field; data: the output as it travelled."""

    kind_name: str
    data: bytes

    __pydantic_config__ = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}  # noqa: RUF012
    kind = "other"
    tensor_kinds = (TensorKind("kind", "BYTES", (1,)), TensorKind("data", "UINT8", (-1,)))

    @property
    def named(self) -> tuple[Named, ...]:
        """See TaskAnswer: nothing that could be told."""
        return ()

    def drawing(self) -> Drawing:
        """See TaskAnswer: a line that says so."""
        return Drawing(legend=(LegendRow(f"an answer of kind {self.kind_name}, unknown here", 0),))

    def tensors(self) -> tuple[Tensor, ...]:
        """See TaskAnswer."""
        return [self.kind_name], np.frombuffer(self.data, np.uint8)

    def as_json(self) -> UnknownAnswer:
        """See TaskAnswer."""
        return self

    @classmethod
    def of_json(cls, value: UnknownAnswer) -> UnknownAnswer:
        """See TaskAnswer."""
        return value

    def put(self, message: TaskResult) -> None:
        """See TaskAnswer."""
        message.other.kind, message.other.data = self.kind_name, self.data

    @classmethod
    def get(cls, message: TaskResult) -> UnknownAnswer:
        """See TaskAnswer."""
        return cls(message.other.kind, message.other.data)


UnknownAnswer.json_type = UnknownAnswer

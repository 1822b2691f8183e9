"""What every task answer can do. A further kind of answer is one more class here, listed in `kinds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from splitcodec.tasks.drawing import Drawing
from splitcodec.wire.v1.results_pb2 import TaskResult


@dataclass(frozen=True)
class Named:
    """A class that an answer names: its label, and how sure or how large it is, 0..1."""

    label: str
    value: float


@dataclass(frozen=True)
class TensorKind:
    """Name, datatype (of the Open Inference Protocol) and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


Tensor = NDArray[np.generic] | Sequence[str]


class TaskAnswer(ABC):
    """What a task says about one frame.

    kind: the name of its field in TaskResult, where it has one, and its key in the edge's JSON. json_type: of
    what `as_json` gives, for pydantic. tensor_kinds: of what `tensors` gives, in that order.
    """

    kind: ClassVar[str]
    json_type: ClassVar[Any]
    tensor_kinds: ClassVar[tuple[TensorKind, ...]]

    @property
    @abstractmethod
    def named(self) -> tuple[Named, ...]:
        """The classes in the answer, best or largest first."""

    @property
    def headline(self) -> tuple[Named, ...]:
        """`named` for people: short labels, and nothing that is no finding."""
        return self.named

    @property
    def objects(self) -> int | None:
        """How many things were found; None where the task counts nothing."""
        return None

    @abstractmethod
    def drawing(self) -> Drawing:
        """How it looks on its picture."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """As arrays, or texts for BYTES, one for each of tensor_kinds."""

    @abstractmethod
    def as_json(self) -> Any:
        """What stands under `kind` in the edge's JSON."""

    @classmethod
    @abstractmethod
    def of_json(cls, value: Any) -> Self:
        """The answer from what `as_json` gave; value: of json_type."""

    @abstractmethod
    def put(self, message: TaskResult) -> None:
        """Set the output of a message."""

    @classmethod
    @abstractmethod
    def get(cls, message: TaskResult) -> Self:
        """The output of a message that has one of this kind. CloudRefused: it is none."""

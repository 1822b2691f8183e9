"""The kinds of answers there are, and which of them a message holds."""

from __future__ import annotations

from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet

from splitcodec.errors import CloudRefused
from splitcodec.tasks.answer import TaskAnswer
from splitcodec.tasks.detections import Detections
from splitcodec.tasks.mask import SegmentationMask
from splitcodec.tasks.scores import ClassScores
from splitcodec.tasks.unknown import UnknownAnswer
from splitcodec.wire.v1.results_pb2 import TaskResult

KINDS: Final[dict[str, type[TaskAnswer]]] = {
    answer.kind: answer for answer in (Detections, SegmentationMask, ClassScores, UnknownAnswer)
}
"""By name. A kind without a field in TaskResult travels in `other`, under its name."""
_FIRST_OUTPUT: Final = 16  # number of the first field of TaskResult.output
_LENGTH_DELIMITED: Final = 2  # wire type of messages


def answer_of(message: TaskResult) -> TaskAnswer:
    """The output of a message; of a kind that nobody here knows as UnknownAnswer.

    CloudRefused: it has none, or one that breaks the rules of its kind.
    """
    field = message.WhichOneof("output")
    if field is None:
        return _from_the_future(message)
    kind = message.other.kind if field == UnknownAnswer.kind else field
    return KINDS.get(kind, UnknownAnswer).get(message)


def _from_the_future(message: TaskResult) -> UnknownAnswer:
    for field in UnknownFieldSet(message):  # type: ignore[attr-defined]  # its stubs know no iteration
        if field.field_number >= _FIRST_OUTPUT and field.wire_type == _LENGTH_DELIMITED:
            return UnknownAnswer(f"field {field.field_number}", bytes(field.data))
    raise CloudRefused("the cloud gave a result without an output; deploy the same version on both sides")

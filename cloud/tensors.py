"""Between task answers and the named tensors of the Open Inference Protocol."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import InvalidRequest
from splitcodec.tasks import ClassificationResult, DetectionResult, SegmentationResult, TaskAnswer

INPUT: Final = "bitstream"
_LENGTH: Final = struct.Struct("<I")  # before each element of a raw BYTES tensor


@dataclass(frozen=True)
class TensorKind:
    """Name, datatype and shape of a tensor; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


_CLASSES: Final = (TensorKind("labels", "BYTES", (-1,)), TensorKind("class_ids", "INT32", (-1,)))
_SCORES: Final = TensorKind("scores", "FP32", (-1,))
OUTPUTS: Final[Mapping[type[TaskAnswer], tuple[TensorKind, ...]]] = {
    DetectionResult: (*_CLASSES, _SCORES, TensorKind("boxes", "FP32", (-1, 4))),
    ClassificationResult: (*_CLASSES, _SCORES),
    SegmentationResult: (
        *_CLASSES,
        TensorKind("shares", "FP32", (-1,)),
        TensorKind("class_map", "UINT16", (-1, -1)),
    ),
}


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it travels: row by row, little-endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


def answer_tensors(answer: TaskAnswer) -> list[RawTensor]:
    """The tensors that OUTPUTS names for this kind of answer, in that order."""
    if isinstance(answer, DetectionResult):
        found = answer.detections
        boxes = [(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in found]
        return [
            _text("labels", (one.label for one in found)),
            _numbers("class_ids", "INT32", np.array([one.class_id for one in found], "<i4")),
            _numbers("scores", "FP32", np.array([one.score for one in found], "<f4")),
            _numbers("boxes", "FP32", np.array(boxes, "<f4").reshape(-1, 4)),
        ]
    classes = answer.classes
    tensors = [
        _text("labels", (one.label for one in classes)),
        _numbers("class_ids", "INT32", np.array([one.class_id for one in classes], "<i4")),
    ]
    if isinstance(answer, ClassificationResult):
        scores = np.array([one.score for one in answer.classes], "<f4")
        return [*tensors, _numbers("scores", "FP32", scores)]
    shares = np.array([one.share for one in answer.classes], "<f4")
    class_map = answer.class_map().astype("<u2")
    return [*tensors, _numbers("shares", "FP32", shares), _numbers("class_map", "UINT16", class_map)]


def one_element(raw: bytes) -> bytes:
    """The element of a raw BYTES tensor of shape [1]. InvalidRequest: its length does not add up."""
    if len(raw) < _LENGTH.size or _LENGTH.unpack_from(raw)[0] != len(raw) - _LENGTH.size:
        raise InvalidRequest(
            f"the raw input has {len(raw)} bytes, which is not one element behind its length in 4 bytes, "
            "little-endian; send one bitstream per request"
        )
    return raw[_LENGTH.size :]


def _text(name: str, words: Iterable[str]) -> RawTensor:
    encoded = [word.encode() for word in words]
    data = b"".join(_LENGTH.pack(len(word)) + word for word in encoded)
    return RawTensor(name, "BYTES", (len(encoded),), data)


def _numbers(name: str, datatype: str, values: NDArray[np.generic]) -> RawTensor:
    return RawTensor(name, datatype, values.shape, values.tobytes())

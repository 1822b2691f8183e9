"""Between task answers and the named tensors of the Open Inference Protocol."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from splitcodec.errors import InvalidRequest
from splitcodec.tasks import TaskAnswer, TensorKind
from splitcodec.tasks.answer import Tensor

INPUT: Final = "bitstream"
_LENGTH: Final = struct.Struct("<I")  # before each element of a raw BYTES tensor


@dataclass(frozen=True)
class RawTensor:
    """A tensor as it travels: row by row, little-endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


def answer_tensors(answer: TaskAnswer) -> list[RawTensor]:
    """The tensors of an answer as they travel."""
    return [_raw(kind, value) for kind, value in zip(answer.tensor_kinds, answer.tensors(), strict=True)]


def one_element(raw: bytes) -> bytes:
    """The element of a raw BYTES tensor of shape [1]. InvalidRequest: its length does not add up."""
    if len(raw) < _LENGTH.size or _LENGTH.unpack_from(raw)[0] != len(raw) - _LENGTH.size:
        raise InvalidRequest(
            f"the raw input has {len(raw)} bytes, which is not one element behind its length in 4 bytes, "
            "little-endian; send one bitstream per request"
        )
    return raw[_LENGTH.size :]


def _raw(kind: TensorKind, value: Tensor) -> RawTensor:
    if isinstance(value, np.ndarray):
        return RawTensor(kind.name, kind.datatype, value.shape, value.tobytes())
    encoded = [word.encode() for word in value]
    data = b"".join(_LENGTH.pack(len(word)) + word for word in encoded)
    return RawTensor(kind.name, kind.datatype, (len(encoded),), data)

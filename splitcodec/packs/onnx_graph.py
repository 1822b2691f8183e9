"""Reads the outline of an ONNX file without the onnx package, and refuses what a pack may not carry.

An ONNX file is a protobuf message. This module walks its fields (a tag, then a varint, 4, 8 or a counted
number of bytes) and looks only at names, shapes, operator domains and where tensors keep their data; weights
are skipped, not copied. Field numbers are those of onnx/onnx.proto of ONNX 1.23. Where a message repeats a
field that should come once, protobuf merges the copies; the walker looks at every copy, so nothing can hide
in the second one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from splitcodec.errors import UnsafePack

ALLOWED_DOMAINS: Final = frozenset({"", "ai.onnx"})
MAX_DEPTH: Final = 8
"""Graphs nested in attributes (If, Loop) deeper than this are refused."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH: Final = {_FIXED64: 8, _FIXED32: 4}
Dim = int | str | None
Value = int | memoryview


@dataclass
class GraphOutline:
    """What a graph takes and gives: names with shapes (per axis an int, a symbol or None), operators."""

    inputs: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    initializers: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    opset: int = 0


def read_outline(data: bytes, name: str) -> GraphOutline:
    """Outline of the ONNX model in `data`; `name` is used in messages.

    Raises UnsafePack for bytes that are no ONNX model, tensors kept outside the file, operators outside the
    standard domain, model-local functions, training graphs, and initializers that an input of the same name
    could replace.
    """
    outline = GraphOutline()
    graphs = 0
    for number, value in _fields(memoryview(data), name):
        if number == 7 and isinstance(value, memoryview):
            graphs += 1
            _read_graph(value, name, outline, depth=0)
        elif number == 8 and isinstance(value, memoryview):
            _read_opset(value, name, outline)
        elif number in (20, 25):
            kind = "training graphs" if number == 20 else "model-local functions"
            raise UnsafePack(f"{name} carries {kind}; export it with standard operators only")
    if graphs != 1 or not outline.inputs or not outline.outputs:
        raise UnsafePack(
            f"{name} is not an ONNX model: {graphs} graphs, {len(outline.inputs)} inputs; export it again"
        )
    if shared := outline.initializers & set(outline.inputs):
        raise UnsafePack(
            f"{name} has default values for inputs {sorted(shared)}; export them as plain inputs"
        )
    return outline


def _fields(data: memoryview, name: str) -> Iterator[tuple[int, Value]]:
    """Field number and value of each field of one message: an int for varints, else the bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position, name)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position, name)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position, name)
        elif wire in _WIDTH:
            size = _WIDTH[wire]
        else:
            raise UnsafePack(f"{name} is not an ONNX model: protobuf wire type {wire} at byte {position}")
        if size > len(data) - position:
            raise UnsafePack(
                f"{name} is not an ONNX model: a field claims {size} bytes, {len(data) - position} remain"
            )
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int, name: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise UnsafePack(f"{name} is not an ONNX model: a number does not end near byte {position}")


def _read_graph(data: memoryview, name: str, outline: GraphOutline, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnsafePack(f"{name} nests graphs deeper than {MAX_DEPTH}; export it without control flow")
    for number, value in _fields(data, name):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            _read_node(value, name, outline, depth)
        elif number == 5:
            outline.initializers.add(_read_tensor(value, name))
        elif number == 15:
            raise UnsafePack(f"{name} carries sparse initializers; export it with dense weights")
        elif number in (11, 12) and depth == 0:
            value_name, shape = _read_value_info(value, name)
            (outline.inputs if number == 11 else outline.outputs)[value_name] = shape


def _read_node(data: memoryview, name: str, outline: GraphOutline, depth: int) -> None:
    operator, domain = "", ""
    for number, value in _fields(data, name):
        if not isinstance(value, memoryview):
            continue
        if number == 4:
            operator = _text(value, name)
        elif number == 7:
            domain = _text(value, name)
        elif number == 5:
            _read_attribute(value, name, outline, depth)
    if domain not in ALLOWED_DOMAINS:
        raise UnsafePack(
            f"{name} uses operator {operator} of domain {domain}; only standard ONNX operators are taken"
        )
    outline.operators.add(operator)


def _read_attribute(data: memoryview, name: str, outline: GraphOutline, depth: int) -> None:
    for number, value in _fields(data, name):
        if not isinstance(value, memoryview):
            continue
        if number in (5, 10):
            _read_tensor(value, name)
        elif number in (6, 11):
            _read_graph(value, name, outline, depth + 1)
        elif number in (22, 23):
            raise UnsafePack(f"{name} carries sparse tensors; export it with dense weights")


def _read_tensor(data: memoryview, name: str) -> str:
    """Name of a tensor; its data must be inside the file."""
    tensor = ""
    external = False
    for number, value in _fields(data, name):
        if number == 8 and isinstance(value, memoryview):
            tensor = _text(value, name)
        elif number == 13 or (number == 14 and value != 0):
            external = True
    if external:
        raise UnsafePack(f"{name} keeps tensor {tensor!r} in another file; export it with embedded weights")
    return tensor


def _read_value_info(data: memoryview, name: str) -> tuple[str, tuple[Dim, ...]]:
    value_name = ""
    shape: list[Dim] = []
    for number, value in _fields(data, name):
        if number == 1 and isinstance(value, memoryview):
            value_name = _text(value, name)
        elif number == 2 and isinstance(value, memoryview):
            for dim in _nested(value, (1, 2, 1), name):
                size: Dim = None
                for dim_number, dim_value in _fields(dim, name):
                    size = dim_value if isinstance(dim_value, int) else _text(dim_value, name)
                    del dim_number
                shape.append(size)
    return value_name, tuple(shape)


def _nested(data: memoryview, path: tuple[int, ...], name: str) -> Iterator[memoryview]:
    """Every sub-message reached by following the field numbers of `path`."""
    for number, value in _fields(data, name):
        if number == path[0] and isinstance(value, memoryview):
            if len(path) == 1:
                yield value
            else:
                yield from _nested(value, path[1:], name)


def _read_opset(data: memoryview, name: str, outline: GraphOutline) -> None:
    domain, version = "", 0
    for number, value in _fields(data, name):
        if number == 1 and isinstance(value, memoryview):
            domain = _text(value, name)
        elif number == 2 and isinstance(value, int):
            version = value
    if domain in ALLOWED_DOMAINS:
        outline.opset = max(outline.opset, version)


def _text(value: memoryview, name: str) -> str:
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsafePack(f"{name} is not an ONNX model: a name is not UTF-8; export it again") from error

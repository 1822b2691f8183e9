"""One graph to ONNX bytes, and the numeric gate: the file must give what torch gives."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splitcodec.errors import ExportMismatch
from splitcodec.export.half import store_as_half
from splitcodec.runtime import open_session

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
MAX_EXPORT_GAP = 2e-3  # of the largest output magnitude; float kernels differ in the last bits

Shape = dict[int, object]


@dataclass(frozen=True)
class ExportInput:
    """An example tensor and its dynamic axes (axis -> torch.export Dim)."""

    name: str
    example: Tensor
    dynamic: Shape


def to_onnx(
    graph: nn.Module, inputs: Sequence[ExportInput], outputs: Sequence[str], *, half: bool = False
) -> bytes:
    """torch module -> ONNX file bytes with exactly the given input and output names, weights embedded.

    half: the weights were rounded to float16 (half.py) and are stored so.
    """
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        traced = torch.export.export(
            graph.eval(),
            tuple(item.example for item in inputs),
            dynamic_shapes=_dynamic_shapes(graph, inputs),
        )
        program = torch.onnx.export(
            traced,
            input_names=[item.name for item in inputs],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    _name_dimensions(model)
    if half:
        store_as_half(model)
    names = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    wanted = [item.name for item in inputs], list(outputs)
    if names != wanted:
        raise ExportMismatch(f"exported graph has inputs and outputs {names}; expected {wanted}")
    onnx.checker.check_model(model, full_check=True)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def _name_dimensions(model: ModelProto) -> None:
    """Name free dimensions after their place: the tracer's names, and digests with them, differ per run."""
    del model.graph.value_info[:]  # inner shapes, spelled in those names; engines infer them again
    for value in [*model.graph.input, *model.graph.output]:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                dimension.dim_param = f"{value.name}_{axis}"


def _dynamic_shapes(graph: nn.Module, inputs: Sequence[ExportInput]) -> tuple[object, ...]:
    """The exporter wants the nesting of forward's signature: *prompt is one nested tuple."""
    fixed = len(getattr(graph, "inputs", [])) - len(getattr(graph, "prompt", []))
    shapes = [item.dynamic or None for item in inputs]
    if fixed >= len(shapes):
        return tuple(shapes)
    return (*shapes[:fixed], tuple(shapes[fixed:]))


def check_export(
    name: str, data: bytes, graph: nn.Module, inputs: Mapping[str, NDArray[np.float32]], exact: bool = False
) -> float:
    """Largest gap between ONNX Runtime and torch relative to the output's size.

    exact: not one output may differ. Raises ExportMismatch over the limit.
    """
    session = open_session(data, name=name, exact=exact)
    found = list(session.run(inputs).values())
    with torch.no_grad():
        wanted = graph(*(torch.from_numpy(value) for value in inputs.values()))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    worst = 0.0
    for have, want in zip(found, wanted, strict=True):
        gap = float(np.abs(have - want.numpy()).max()) / max(1.0, float(want.abs().max()))
        worst = max(worst, gap)
    limit = 0.0 if exact else MAX_EXPORT_GAP
    if worst > limit:
        raise ExportMismatch(f"{name}: ONNX Runtime and torch differ by {worst:.2e}; limit is {limit:.0e}")
    return worst

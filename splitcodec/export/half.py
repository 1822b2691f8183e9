"""Weights of task tails as float16: half the bytes of a pack, computed in float32 all the same.

The networks are rounded first and exported then, so the graph gives exactly what the rounded network gives;
each large initializer becomes float16 with a Cast behind it, which engines fold when they load the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from splitcodec.errors import ExportMismatch

if TYPE_CHECKING:
    from onnx import ModelProto

MIN_ELEMENTS = 256  # smaller tensors save nothing worth a node
MAX_HALF = 65504.0


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Every parameter in place to the nearest float16; ExportMismatch if one is beyond its range."""
    for name, value in module.named_parameters():
        if float(value.abs().max()) > MAX_HALF:
            largest = float(value.abs().max())
            raise ExportMismatch(f"{name} reaches {largest:.3g}; float16 ends at {MAX_HALF:.0f}")
        value.copy_(value.half().float())


def store_as_half(model: ModelProto) -> None:
    """Replace, in place, large float32 initializers that float16 holds exactly."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < MIN_ELEMENTS:
            continue
        halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue  # a constant of the exporter's own, not a rounded weight
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

"""The decoder graph with the prompts of N frames stacked: each prompt convolution becomes one of N groups.

A convolution's kernel has no batch dimension, so frames of different prompts cannot share a plain run. Here
a prompt convolution sees the batch as channels ([N, C, H, W] as [1, N*C, H, W]) and takes N kernels, one
after the other; all else runs on the batch as it is. The number of groups is fixed, so each N is a graph of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from splitcodec.packs import Pack
from splitcodec.prompts import Prompt


def stacked_decoder(pack: Pack, frames: int) -> bytes:
    """ONNX bytes of the pack's decoder for exactly so many frames, each with a prompt of its own."""
    model = onnx.load_from_string(pack.graph_bytes("decoder"))
    prompts = _prompt_inputs(pack)
    for value in model.graph.input:
        if value.name in prompts:
            value.type.tensor_type.shape.dim[0].dim_value *= frames
    nodes = []
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Conv" and node.input[1] in prompts:
            nodes += _grouped(node, f"stacked{number}", frames)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, first in (("stacked.one", 1), ("stacked.all", frames)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([first, -1], np.int64), name))
    return bytes(model.SerializeToString())


def stacked_inputs(pack: Pack, prompts: Sequence[Prompt]) -> Mapping[str, NDArray[np.float32]]:
    """The prompt tensors of the frames, one after the other, by input name."""
    each = [prompt.graph_inputs("decoder") for prompt in prompts]
    return {name: np.concatenate([one[name] for one in each]) for name in _prompt_inputs(pack)}


def _prompt_inputs(pack: Pack) -> set[str]:
    schema = pack.manifest.codec.prompt_schema
    return {name for name, spec in schema.items() if "decoder" in spec.graphs}


def _grouped(node: onnx.NodeProto, name: str, frames: int) -> list[onnx.NodeProto]:
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    attributes["group"] = frames * attributes.get("group", 1)
    return [
        helper.make_node("Shape", [node.input[0]], [f"{name}.in"], start=2, end=4),
        helper.make_node("Concat", ["stacked.one", f"{name}.in"], [f"{name}.as_channels"], axis=0),
        helper.make_node("Reshape", [node.input[0], f"{name}.as_channels"], [f"{name}.x"]),
        helper.make_node("Conv", [f"{name}.x", *node.input[1:]], [f"{name}.y"], **attributes),
        helper.make_node("Shape", [f"{name}.y"], [f"{name}.out"], start=2, end=4),
        helper.make_node("Concat", ["stacked.all", f"{name}.out"], [f"{name}.as_batch"], axis=0),
        helper.make_node("Reshape", [f"{name}.y", f"{name}.as_batch"], list(node.output)),
    ]

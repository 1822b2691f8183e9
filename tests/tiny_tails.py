"""Tails of the tiny pack, one per kind of answer: feature [N, CH, H/8, W/8] in, random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CH = 6
LABELS = ("cat", "dog")
SEGMENT_LABELS = ("background", "cat", "dog")
CLASSIFY_LABELS = ("tench, Tinca tinca", "goldfish", "great white shark", "bathtub, tub", "owl", "tub, vat")


def tail_graph(seed: int = 0) -> bytes:
    """A YOLOX tail for LABELS: head_s8, head_s16, head_s32, all values in (0, 1)."""
    channels = 5 + len(LABELS)
    nodes = [
        helper.make_node("Conv", ["feature", "w"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["head_s8"]),
        *(
            helper.make_node("AveragePool", ["head_s8"], [name], kernel_shape=[n, n], strides=[n, n])
            for name, n in (("head_s16", 2), ("head_s32", 4))
        ),
    ]
    outputs = {f"head_s{n}": ["N", channels, f"h{n}", f"w{n}"] for n in (8, 16, 32)}
    return _graph(nodes, outputs, seed, channels)


def even_tail() -> bytes:
    """A YOLOX tail for LABELS whose every value is 0.5: one box and score, in every cell of every frame."""
    made = onnx.load_from_string(tail_graph())
    (weight,) = made.graph.initializer
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), "w"))
    return bytes(made.SerializeToString())


def segment_tail(seed: int = 0) -> bytes:
    """A DeepLab tail for SEGMENT_LABELS: logits at 1/8."""
    channels = len(SEGMENT_LABELS)
    nodes = [helper.make_node("Conv", ["feature", "w"], ["logits"])]
    return _graph(nodes, {"logits": ["N", channels, "h8", "w8"]}, seed, channels)


def classify_tail(seed: int = 0) -> bytes:
    """A classifier's tail for CLASSIFY_LABELS: one logit each."""
    channels = len(CLASSIFY_LABELS)
    nodes = [
        helper.make_node("Conv", ["feature", "w"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    return _graph(nodes, {"logits": ["N", channels]}, seed, channels)


def _graph(
    nodes: Sequence[onnx.NodeProto], outputs: Mapping[str, list[int | str]], seed: int, channels: int
) -> bytes:
    weight = np.random.default_rng(seed).normal(size=(channels, CH, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        list(nodes),
        "tail",
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", CH, "h8", "w8"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(weight, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())

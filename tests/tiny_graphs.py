"""Graphs of the tiny pack, written with onnx.helper: head, hyper encoder, scale, quantizer, decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_tails import CH

from splitcodec.entropy import Z_MAX

CY, CZ, K = 8, 4, 3
Nodes = list[onnx.NodeProto]
Shape = list[int | str]
INPUT_SHAPES: dict[str, Shape] = {
    "image": ["N", 3, "H", "W"],
    "y": ["N", CY, "h", "w"],
    "symbols": ["N", CY, "h", "w"],
    "symbol_limit": ["N", CY, "h", "w"],
    "z_symbols": ["N", CZ, "hz", "wz"],
    "gain_y": ["N", CY, 1, 1],
    "gain_y_inv": ["N", CY, 1, 1],
    "gain_z": ["N", CZ, 1, 1],
    "gain_z_inv": ["N", CZ, 1, 1],
    "rate_shift": ["N", CY, 1, 1],
    "feature": ["N", CH, "h8", "w8"],
    "held": ["N", 1, "hc", "wc"],
    "kept": ["N", CY, "h", "w"],
}
PROMPT_SHAPES: dict[str, list[int]] = {
    "g_a.conv0.weight": [CY, 3, 16, 16],
    "g_a.conv0.bias": [CY],
    "h_a.conv0.weight": [CZ, CY, 4, 4],
    "h_a.conv0.bias": [CZ],
    "h_s_scale.conv0.weight": [16 * CY, CZ, 1, 1],
    "h_s_scale.conv0.bias": [16 * CY],
    "h_s_mean.conv0.weight": [16 * CY, CZ, 1, 1],
    "h_s_mean.conv0.bias": [16 * CY],
    "g_s.conv0.weight": [4 * CH, CY, 1, 1],
    "g_s.conv0.bias": [4 * CH],
}


def model(
    nodes: Nodes,
    inputs: Sequence[str],
    output: tuple[str, Shape],
    constants: dict[str, NDArray[np.generic]],
    holds: bool = False,
) -> bytes:
    """ONNX bytes of a graph whose inputs are contract or prompt tensors by name.

    holds: `latent`, [N, CY, h, w], is a second output, and `held` and `kept` are inputs.
    """
    outputs = [output, ("latent", INPUT_SHAPES["kept"])] if holds else [output]
    inputs = [*inputs, "held", "kept"] if holds else inputs
    shapes = {**INPUT_SHAPES, **PROMPT_SHAPES}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


def _f32(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def _round_half_up(source: str, target: str) -> Nodes:
    return [
        helper.make_node("Add", [source, "half"], [target + ".up"]),
        helper.make_node("Floor", [target + ".up"], [target]),
    ]


def _mean(nodes: Nodes) -> None:
    """Appends: z_symbols -> mean [N, Cy, 4hz, 4wz]."""
    nodes += [
        helper.make_node("Mul", ["z_symbols", "gain_z_inv"], ["z_hat"]),
        helper.make_node("Conv", ["z_hat", "h_s_mean.conv0.weight", "h_s_mean.conv0.bias"], ["mean.wide"]),
        helper.make_node("DepthToSpace", ["mean.wide"], ["mean.all"], blocksize=4, mode="CRD"),
    ]


def _crop_mean(nodes: Nodes, like: str) -> None:
    """Appends: mean.all cut to the height and width of `like` -> mean."""
    nodes += [
        helper.make_node("Shape", [like], ["size"], start=2, end=4),
        helper.make_node("Slice", ["mean.all", "zeros2", "size", "axes23"], ["mean"]),
    ]


_SLICE = {"zeros2": np.zeros(2, np.int64), "axes23": np.array([2, 3], np.int64)}


def head_graph() -> bytes:
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["x"]),
        helper.make_node("Conv", ["x", "g_a.conv0.weight", "g_a.conv0.bias"], ["c"], strides=[16, 16]),
        helper.make_node("Mul", ["c", "gain_y"], ["y"]),
    ]
    inputs = ["image", "gain_y", "g_a.conv0.weight", "g_a.conv0.bias"]
    return model(nodes, inputs, ("y", INPUT_SHAPES["y"]), {"scale": _f32(1 / 255)})


def hyper_encoder_graph() -> bytes:
    nodes = [
        # pads h and w to multiples of four, as ceil(h/4) needs: kernel 4, stride 4, three cells after the end
        helper.make_node(
            "Conv", ["y", "h_a.conv0.weight", "h_a.conv0.bias"], ["c"], strides=[4, 4], pads=[0, 0, 3, 3]
        ),
        helper.make_node("Mul", ["c", "gain_z"], ["g"]),
        *_round_half_up("g", "r"),
        helper.make_node("Clip", ["r", "low", "high"], ["z_symbols"]),
    ]
    constants = {"half": _f32(0.5), "low": _f32(-Z_MAX), "high": _f32(Z_MAX)}
    inputs = ["y", "gain_z", "h_a.conv0.weight", "h_a.conv0.bias"]
    return model(nodes, inputs, ("z_symbols", INPUT_SHAPES["z_symbols"]), constants)


def scale_graph() -> bytes:
    nodes = [
        helper.make_node("Conv", ["z_symbols", "h_s_scale.conv0.weight", "h_s_scale.conv0.bias"], ["acc"]),
        helper.make_node("Add", ["acc", "rounding"], ["acc.r"]),
        helper.make_node("Mul", ["acc.r", "step"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["floored"]),
        helper.make_node("DepthToSpace", ["floored"], ["wide"], blocksize=4, mode="CRD"),
        helper.make_node("Add", ["wide", "rate_shift"], ["shifted"]),
        helper.make_node("Clip", ["shifted", "low", "high"], ["sigma_index"]),
    ]
    constants = {"rounding": _f32(8), "step": _f32(1 / 16), "low": _f32(0), "high": _f32(63)}
    inputs = ["z_symbols", "rate_shift", "h_s_scale.conv0.weight", "h_s_scale.conv0.bias"]
    return model(nodes, inputs, ("sigma_index", ["N", CY, "H16", "W16"]), constants)


def _hold(nodes: Nodes, value: str) -> None:
    """Appends: kept where a cell is held, else `value` -> latent; and `holds`, [N, 1, h, w] of 0 and 1."""
    nodes += [
        helper.make_node("Resize", ["held", "", "twice"], ["holds"], mode="nearest"),
        helper.make_node("Greater", ["holds", "half"], ["is_held"]),
        helper.make_node("Where", ["is_held", "kept", value], ["latent"]),
    ]


_HOLD = {"twice": np.array([1, 1, 2, 2], np.float32), "half": _f32(0.5)}


def quantizer_graph(holds: bool = False) -> bytes:
    nodes: Nodes = []
    _mean(nodes)
    _crop_mean(nodes, "y")
    clipped = "clipped" if holds else "symbols"
    nodes += [
        helper.make_node("Sub", ["y", "mean"], ["residual"]),
        *_round_half_up("residual", "rounded"),
        helper.make_node("Neg", ["symbol_limit"], ["low"]),
        helper.make_node("Max", ["rounded", "low"], ["above"]),
        helper.make_node("Min", ["above", "symbol_limit"], [clipped]),
    ]
    if holds:
        nodes.append(helper.make_node("Add", ["clipped", "mean"], ["coded"]))
        _hold(nodes, "coded")
        nodes += [
            helper.make_node("Sub", ["one", "holds"], ["free"]),
            helper.make_node("Mul", ["clipped", "free"], ["symbols"]),
        ]
    inputs = ["y", "z_symbols", "gain_z_inv", "symbol_limit", "h_s_mean.conv0.weight", "h_s_mean.conv0.bias"]
    constants = {"half": _f32(0.5), **_SLICE, **({**_HOLD, "one": _f32(1)} if holds else {})}
    return model(nodes, inputs, ("symbols", INPUT_SHAPES["symbols"]), constants, holds)


def decoder_graph(holds: bool = False) -> bytes:
    nodes: Nodes = []
    _mean(nodes)
    _crop_mean(nodes, "symbols")
    nodes.append(helper.make_node("Add", ["symbols", "mean"], ["y_scaled"]))
    if holds:
        _hold(nodes, "y_scaled")
    nodes += [
        helper.make_node("Mul", ["latent" if holds else "y_scaled", "gain_y_inv"], ["y_hat"]),
        helper.make_node("Conv", ["y_hat", "g_s.conv0.weight", "g_s.conv0.bias"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["feature"], blocksize=2, mode="CRD"),
    ]
    prompts = [name for name in PROMPT_SHAPES if name.startswith(("h_s_mean", "g_s"))]
    inputs = ["symbols", "z_symbols", "gain_z_inv", "gain_y_inv", *prompts]
    constants = {**_SLICE, **(_HOLD if holds else {})}
    return model(nodes, inputs, ("feature", INPUT_SHAPES["feature"]), constants, holds)

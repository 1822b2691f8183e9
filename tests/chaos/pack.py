"""The tiny pack with a tail that a real cloud can run: three strides of random YOLOX heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tiny_pack import CH, contents, holding, prompt_tensors

from splitcodec.packs.write import PackContents, write_pack

CHANNELS = 7  # box, objectness, two classes


def yolox_tail() -> bytes:
    """feature [N, Ch, h8, w8] -> head_s8, head_s16, head_s32."""
    dice = np.random.default_rng(0)
    weights = [(0.1 * dice.normal(size=(CHANNELS, CH, step, step))).astype("f4") for step in (1, 2, 4)]
    names = ["head_s8", "head_s16", "head_s32"]
    nodes = [
        helper.make_node("Conv", ["feature", f"w{step}"], [name], strides=[step, step])
        for name, step in zip(names, (1, 2, 4), strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", CH, "h8", "w8"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, f"h{name}", f"w{name}"])
            for name in names
        ],
        [numpy_helper.from_array(w, f"w{step}") for w, step in zip(weights, (1, 2, 4), strict=True)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


def write_chaos_pack(folder: Path) -> None:
    """The pack that edge and cloud hold."""
    write_pack(folder, _with_prompt(0))


def write_older_pack(folder: Path) -> None:
    """A pack whose prompt is another one, so that its cloud cannot take the edge's frames."""
    write_pack(folder, _with_prompt(99))


def write_holding_pack(folder: Path) -> None:
    """A pack whose frames can hold cells."""
    write_pack(folder, _with_prompt(0, holding()))


def _with_prompt(seed: int, base: PackContents | None = None) -> PackContents:
    base = base or contents()
    detect = replace(base.tasks["detect"], tensors=prompt_tensors(seed), tail=yolox_tail())
    return replace(base, tasks={"detect": detect})

"""The shipped pack gives, stage by stage, the numbers that the maker of its weights saw at rate point 1.

The torch networks are held to the same file by `splitcodec train import --conformance`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import GOLDEN
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors import safe_open
from training_rig import THIRD_PARTY

from splitcodec.codec.exact import ExactScale, open_graph
from splitcodec.codec.held import nothing_held
from splitcodec.models.sizes import NANO
from splitcodec.models.transforms import Analysis
from splitcodec.packs import Pack, load_pack
from splitcodec.runtime import open_session

pytestmark = pytest.mark.filterwarnings(THIRD_PARTY)
FILE = GOLDEN / "codec2_conformance.safetensors"
FLOAT_GAP = 1e-3
TAIL_GAP = 5e-3  # the pack holds the weights of tails as float16
OUTPUTS = ("head_s16", "head_s32", "logits")
Array = NDArray[Any]
TASKS = load_pack("default").tasks


@lru_cache(maxsize=1)
def stated() -> dict[str, Array]:
    with safe_open(str(FILE), framework="np") as file:
        assert file.metadata() == {"rate_point": "1"}
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@lru_cache(maxsize=3)
def found(task: str) -> dict[str, Array]:
    """Every stage of the shipped pack's graphs on the picture."""
    pack = load_pack("default")
    prompt = pack.prompt(task)
    at = prompt.rate_inputs(256)
    image = stated()["image"].astype(np.float32)
    y = run(pack, "head", task, image=image, gain_y=at.gain_y)["y"]
    z = run(pack, "hyper_encoder", task, y=y, gain_z=at.gain_z)["z_symbols"]
    index = ExactScale(pack, 1).run(z, at.rate_shift, prompt, 128, 128)
    limit = pack.tables_of(prompt).limit.astype(np.float32)[index]
    inputs = {"z_symbols": z, "gain_z_inv": at.gain_z_inv, **nothing_held(y.shape)}
    symbols = run(pack, "quantizer", task, y=y, symbol_limit=limit, **inputs)["symbols"]
    feature = run(pack, "decoder", task, symbols=symbols, gain_y_inv=at.gain_y_inv, **inputs)["feature"]
    tail = open_session(pack.tail_bytes(task), "ort-cpu").run({"feature": feature})
    stages = {"y": y, "z_symbols": z, "sigma_index": index, "symbols": symbols, "feature": feature}
    return stages | {name: value for name, value in tail.items() if name in OUTPUTS}


def run(pack: Pack, graph: Any, task: str, **inputs: Array) -> Any:
    return open_graph(pack, graph, "ort-cpu", 1).run({**inputs, **pack.prompt(task).graph_inputs(graph)})


def gap(have: Array, want: Array) -> float:
    assert have.shape == want.shape
    return float(np.abs(have - want).max() / np.abs(want).max())


def test_stem_and_trunk_of_the_shipped_head_are_the_makers() -> None:
    head = onnx.load_model_from_string(load_pack("default").graph_bytes("head"))
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in head.graph.initializer}
    analysis = Analysis(NANO)
    prefix = "codec.g_a."
    analysis.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
    with torch.no_grad():
        seen = analysis(torch.from_numpy(stated()["image"]).float() / 127.5 - 1.0)
    assert gap(seen.stem.numpy(), stated()["base.stem"]) < FLOAT_GAP
    assert gap(seen.trunk.numpy(), stated()["base.trunk"]) < FLOAT_GAP


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", ["y", "feature"])
def test_float_stage_is_the_makers(stage: str, task: str) -> None:
    assert gap(found(task)[stage], stated()[f"{task}.{stage}"]) < FLOAT_GAP


@pytest.mark.parametrize("task", TASKS)
def test_outputs_of_the_tail_are_the_makers(task: str) -> None:
    outputs = [name for name in OUTPUTS if name in found(task)]
    assert outputs
    for name in outputs:
        assert gap(found(task)[name], stated()[f"{task}.{name}"]) < TAIL_GAP


@pytest.mark.parametrize("task", TASKS)
def test_z_symbols_are_equal_and_symbols_but_for_ties(task: str) -> None:
    assert np.array_equal(found(task)["z_symbols"], stated()[f"{task}.z_symbols"])
    differing = found(task)["symbols"] != stated()[f"{task}.symbols"]
    assert differing.mean() <= 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_sigma_indexes_of_the_integer_branch_are_within_one_level_of_the_float_ones(task: str) -> None:
    """The pack's branch has weights on a grid and rounds the rate's shift on its own."""
    distance = np.abs(found(task)["sigma_index"] - stated()[f"{task}.sigma_index"])
    assert distance.max() < 1.6
    assert distance.mean() < 0.4, "rounding alone gives a quarter"

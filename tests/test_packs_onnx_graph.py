"""The ONNX walker: agrees with the onnx package on sound files, refuses what could reach outside them."""

from __future__ import annotations

import onnx
import pytest
import tiny_pack
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from splitcodec.errors import UnsafePack
from splitcodec.packs.onnx_graph import MAX_DEPTH, read_outline

GRAPHS = {**tiny_pack.contents().graphs, "tail": tiny_pack.tail_graph()}


@pytest.mark.parametrize("name", GRAPHS)
def test_outline_agrees_with_the_onnx_package(name: str) -> None:
    reference = onnx.load_from_string(GRAPHS[name])
    outline = read_outline(GRAPHS[name], name)
    shapes = {
        value.name: tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in reference.graph.input
    }
    assert outline.inputs == shapes
    assert list(outline.outputs) == [value.name for value in reference.graph.output]
    assert outline.operators == {node.op_type for node in reference.graph.node}
    assert outline.initializers == {tensor.name for tensor in reference.graph.initializer}
    assert outline.opset == 20


def _head() -> onnx.ModelProto:
    return onnx.load_from_string(GRAPHS["head"])


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _external_without_flag(model: onnx.ModelProto) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "x"


def _external_constant(model: onnx.ModelProto) -> None:
    value = TensorProto(name="hidden", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=value))


def _inner(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "inner", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])])


def _custom_in_branch(model: onnx.ModelProto) -> None:
    inner = _inner([helper.make_node("Evil", [], ["o"], domain="x.y")])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner))


def _too_deep(model: onnx.ModelProto) -> None:
    inner = _inner([helper.make_node("Identity", ["a"], ["o"])])
    for _ in range(MAX_DEPTH + 2):
        inner = _inner([helper.make_node("If", ["c"], ["o"], then_branch=inner)])
    model.graph.node.append(inner.node[0])


def _function(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("f", "F", [], ["o"], [], opset))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _default_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))


REFUSED = {
    "external data": (_external, "in another file"),
    "external data without its flag": (_external_without_flag, "in another file"),
    "external constant": (_external_constant, "'hidden' in another file"),
    "custom operator in a branch": (_custom_in_branch, r"Evil of domain x\.y"),
    "deep nesting": (_too_deep, "nests graphs"),
    "function": (_function, "functions"),
    "sparse weights": (_sparse, "sparse"),
    "training graph": (lambda model: model.training_info.add(), "training"),
    "input with a default": (_default_input, "default values"),
    "no graph": (lambda model: model.ClearField("graph"), "not an ONNX model"),
}


@pytest.mark.parametrize(("harm", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_unsafe_model_is_refused(harm: object, text: str) -> None:
    model = _head()
    assert callable(harm)
    harm(model)
    with pytest.raises(UnsafePack, match=text):
        read_outline(model.SerializeToString(), "x.onnx")


def test_second_copy_of_the_graph_cannot_hide_anything() -> None:
    harmed = _head()
    _external(harmed)
    hidden = onnx.ModelProto(graph=harmed.graph).SerializeToString()
    with pytest.raises(UnsafePack):
        read_outline(GRAPHS["head"] + hidden, "x.onnx")


@given(st.integers(0, len(GRAPHS["scale"]) - 1))
def test_cut_file_is_an_error_not_a_crash(size: int) -> None:
    data = GRAPHS["scale"][:size]
    try:
        read_outline(data, "cut.onnx")
    except UnsafePack:
        return
    onnx.load_from_string(data)  # a cut at the end of a field leaves a smaller sound message


@given(st.binary(max_size=200))
def test_random_bytes_are_an_error_not_a_crash(data: bytes) -> None:
    with pytest.raises(UnsafePack):
        read_outline(data, "random.onnx")

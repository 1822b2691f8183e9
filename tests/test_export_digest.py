"""Shipped graphs hold nothing that differs between two exports of the same weights."""

from __future__ import annotations

import io

from splitcodec.packs import Pack


def test_shipped_graphs_carry_no_tracer_names(default_pack: Pack) -> None:
    import onnx

    codec = default_pack.manifest.codec
    for data in [
        *(default_pack.graph_bytes(name) for name in codec.graphs),
        default_pack.tail_bytes("detect"),
    ]:
        model = onnx.load(io.BytesIO(data))
        assert not model.metadata_props
        assert not model.graph.metadata_props
        assert not model.graph.value_info
        for value in [*model.graph.input, *model.graph.output]:
            for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
                assert not dimension.dim_param or dimension.dim_param == f"{value.name}_{axis}"

"""What leaves the exporter: graphs that equal torch at any size, and bytes that cost what the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from training_rig import (
    LABELS,
    THIRD_PARTY,
    TINY,
    WholeRun,
    smooth_photo,
    tiny_parts,
    whole_run,
)

from splitcodec.bitstream import MAX_HEADER_BYTES, parse
from splitcodec.codec import FeatureEncoder
from splitcodec.codec.exact import ExactScale
from splitcodec.entropy import CDF_BITS, Z_MAX, decode_hyper, decode_symbols
from splitcodec.errors import ExportMismatch
from splitcodec.export import graphs as exported
from splitcodec.export.build import prompt_tensors
from splitcodec.export.graphs import CodecGraph, TailGraph
from splitcodec.export.half import round_to_half
from splitcodec.export.to_onnx import ExportInput, check_export, to_onnx
from splitcodec.models.codec import gaussian_bits
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.schema import LATENT_OUTPUT
from splitcodec.packs.write import PackContents, TaskContents, write_pack
from splitcodec.runtime import open_session
from splitcodec.training.codec_run import CodecParts
from splitcodec.training.teacher import YOLOX

__all__ = ["whole_run"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]
Array = NDArray[np.generic]
SECOND_SIZES = [(64, 96), (128, 192), (416, 352)]  # the graphs were traced at another one
GRAPHS = {
    "head": exported.HeadGraph,
    "hyper_encoder": exported.HyperEncoderGraph,
    "scale": exported.ScaleGraph,
    "quantizer": exported.HeldQuantizerGraph,
    "decoder": exported.HeldDecoderGraph,
}


@pytest.fixture(scope="module")
def pack(whole_run: WholeRun) -> Pack:
    return load_pack(whole_run.pack)


def feeds(graph: CodecGraph, pack: Pack, size: tuple[int, int]) -> dict[str, Array]:
    """Random inputs of a graph for a network size, batch 3, in the graph's own order."""
    height, width = size
    rng = np.random.default_rng(height)
    h, w, y, z = height // 16, width // 16, TINY.latent_channels, TINY.hyper_channels
    latent = (3, y, h, w)
    values: dict[str, Array] = {
        "image": rng.uniform(0, 255, (3, 3, height, width)),
        "y": rng.normal(size=latent) * 4,
        "symbols": np.rint(rng.normal(size=latent) * 2),
        "symbol_limit": rng.integers(2, 9, latent),
        "held": rng.integers(0, 2, (3, 1, h // 2, w // 2)),
        "kept": rng.normal(size=latent) * 4,
        "z_symbols": rng.integers(-Z_MAX, Z_MAX + 1, (3, z, -(-h // 4), -(-w // 4))),
        "rate_shift": rng.integers(-5, 6, (3, y, 1, 1)),
        "gain_y": rng.uniform(0.5, 3, (3, y, 1, 1)),
        "gain_y_inv": rng.uniform(0.5, 3, (3, y, 1, 1)),
        "gain_z": rng.uniform(5, 30, (3, z, 1, 1)),
        "gain_z_inv": rng.uniform(0.05, 0.2, (3, z, 1, 1)),
        **pack.prompt("detect").tensors,
    }
    return {name: np.array(values[name], np.float32) for name in graph.inputs}


@pytest.mark.parametrize("size", SECOND_SIZES)
@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graph_equals_torch_at_another_size(
    name: str, size: tuple[int, int], pack: Pack, whole_run: WholeRun
) -> None:
    graph = GRAPHS[name](whole_run.parts.codec)
    inputs = feeds(graph, pack, size)
    outputs = open_session(pack.graph_bytes(name), name=name, exact=name == "scale").run(inputs)
    with torch.no_grad():
        wanted = graph(*(torch.from_numpy(value) for value in inputs.values()))
    assert tuple(outputs) == graph.outputs
    found = outputs[graph.outputs[0]]
    want = (wanted[0] if isinstance(wanted, tuple) else wanted).numpy()
    if name == "head":
        assert np.abs(outputs["importance"] - wanted[1].numpy()).max() < 1e-5
    if LATENT_OUTPUT in outputs:
        latent, cells = outputs[LATENT_OUTPUT], inputs["held"].repeat(2, 2).repeat(2, 3) > 0
        assert np.array_equal(np.where(cells, latent, 0), np.where(cells, inputs["kept"], 0))
        assert np.abs(np.where(cells, 0, latent - wanted[1].numpy())).mean() < 1e-3
    assert found.shape == want.shape
    assert want.std() > 0
    if name in ("scale", "hyper_encoder", "quantizer"):  # integers; a float tie may fall either way
        assert np.array_equal(found, np.rint(found))
        assert np.abs(found - want).max() <= (0 if name == "scale" else 1)
        assert (found != want).mean() < 1e-3
    else:
        assert np.abs(found - want).max() < 1e-4 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("size", SECOND_SIZES)
def test_exported_tail_equals_torch_at_another_size(
    size: tuple[int, int], pack: Pack, whole_run: WholeRun
) -> None:
    graph = TailGraph(whole_run.parts.adapter, whole_run.parts.tail, YOLOX.outputs)
    round_to_half(graph)  # as export does
    feature = np.random.default_rng(1).normal(size=(2, 8, size[0] // 8, size[1] // 8)).astype(np.float32)
    found = open_session(pack.tail_bytes("detect"), name="tail").run({"feature": feature})
    with torch.no_grad():
        want = graph(torch.from_numpy(feature))
    for name, value in zip(YOLOX.outputs, want, strict=True):
        assert found[name].shape[1] == 5 + len(LABELS)
        assert np.abs(found[name] - value.numpy()).max() < 1e-4 * max(1.0, value.abs().max().item())


def test_prompts_and_gains_are_inputs_under_their_names(pack: Pack, whole_run: WholeRun) -> None:
    used = set()
    for name, build in GRAPHS.items():
        model = onnx.load_model_from_string(pack.graph_bytes(name))
        graph = build(whole_run.parts.codec)
        assert [value.name for value in model.graph.input] == graph.inputs
        assert [value.name for value in model.graph.output] == list(graph.outputs)
        assert {node.domain for node in model.graph.node} == {""}
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert not {tensor.name for tensor in model.graph.initializer} & set(graph.inputs)
        used |= set(graph.prompt)
    assert used == set(whole_run.parts.prompt.tensors())


def test_scale_graph_has_no_operator_that_could_round(pack: Pack) -> None:
    model = onnx.load_model_from_string(pack.graph_bytes("scale"))
    kinds = {node.op_type for node in model.graph.node}
    assert kinds <= {
        "Conv",
        "Add",
        "Mul",
        "Floor",
        "Clip",
        "DepthToSpace",
        "Reshape",
        "Transpose",
        "Shape",
        "Concat",
        "Slice",
        "Gather",
        "Constant",
        "Identity",
        "Squeeze",
        "Unsqueeze",
    }, kinds


def test_gate_refuses_a_graph_of_other_weights(pack: Pack) -> None:
    other = exported.HeadGraph(tiny_parts(seed=77).codec)
    with pytest.raises(ExportMismatch, match=r"head: ONNX Runtime and torch differ by .*; limit is 2e-03"):
        check_export("head", pack.graph_bytes("head"), other, feeds(other, pack, (64, 96)))


def test_export_refuses_names_that_are_not_the_graphs(whole_run: WholeRun) -> None:
    class Doubled(torch.nn.Module):
        inputs = ("a",)

        def forward(self, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a * 2, a

    with pytest.raises(
        ExportMismatch, match=r"exported graph has inputs and outputs \(\['a'\], \['b', .*expected"
    ):
        to_onnx(Doubled(), [ExportInput("a", torch.ones(2, 2), {})], ["b"])


@pytest.fixture(scope="module")
def lively(
    pack: Pack, whole_run: WholeRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pack, CodecParts]:
    """The same codec with a random prompt and gains that give symbols well off zero."""
    parts = tiny_parts(seed=21)
    parts.codec.load_state_dict(whole_run.parts.codec.state_dict())
    with torch.no_grad():
        parts.gains.log_gain_y.copy_(torch.linspace(3.2, 4.9, 4)[:, None].expand(4, TINY.latent_channels))
        parts.gains.log_gain_z.fill_(2.0)
        parts.gains.index_shift.copy_(torch.linspace(8.0, 33.0, 4)[:, None].expand(4, TINY.latent_channels))
        for group in ("g_a", "h_a", "h_s_mean", "h_s_scale"):
            parts.prompt.branches[group].conv3.weight.normal_(std=0.03)
    old = pack.manifest.tasks["detect"]
    task = TaskContents(
        tensors=prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior),
        tail=pack.tail_bytes("detect"),
        tail_macs_per_pixel=old.tail.macs_per_pixel,
        input=old.input,
        labels=old.labels,
        postprocess=old.postprocess,
    )
    codec = pack.manifest.codec
    contents = PackContents(
        name="lively",
        graphs={name: pack.graph_bytes(name) for name in codec.graphs},
        macs_per_pixel={name: graph.macs_per_pixel for name, graph in codec.graphs.items()},
        feature_channels=codec.feature_channels,
        tables=pack.tables,
        exact_bound=codec.exact_bound,
        tasks={"detect": task},
        measured=(),
        provenance=pack.manifest.provenance,
        model_card="# lively\n",
    )
    folder: Path = tmp_path_factory.mktemp("lively") / "pack"
    write_pack(folder, contents)
    return load_pack(folder), parts


@pytest.mark.parametrize("rate", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(160, 128), (416, 352)])
def test_real_bytes_are_the_likelihood_within_one_percent(
    rate: int, size: tuple[int, int], lively: tuple[Pack, CodecParts]
) -> None:
    pack, parts = lively
    prompt = pack.prompt("detect")
    canvas = smooth_photo(*size, seed=rate)
    frame = FeatureEncoder(pack, engine="ort-cpu").compress(canvas, prompt, float(rate), size)
    stream = parse(frame.data)
    assert frame.num_bytes - len(stream.z) - len(stream.y) <= MAX_HEADER_BYTES
    at = prompt.rate_inputs(256 * rate)
    h, w = size[0] // 16, size[1] // 16
    shape = (TINY.hyper_channels, -(-h // 4), -(-w // 4))
    z = decode_hyper(stream.z, shape, at.z_counts)
    index = ExactScale(pack, 1).run(z[None].astype(np.float32), at.rate_shift, prompt, *size)[0]
    y = decode_symbols(stream.y, index, pack.tables)
    assert len(np.unique(y)) > 5
    assert len(np.unique(z)) > 2
    assert_close(len(stream.y), table_bits(pack.tables.counts[index, y + pack.tables.counts.shape[1] // 2]))
    z_counts = at.z_counts[np.arange(shape[0])[:, None, None], z + Z_MAX]
    assert_close(len(stream.z), table_bits(z_counts))
    with torch.no_grad():
        symbols, levels = torch.from_numpy(y[None]).float(), torch.from_numpy(index[None]).float()
        assert_close(len(stream.y), gaussian_bits(symbols, levels).item())
        mass = parts.hyper_prior.likelihood(torch.from_numpy(z[None]).float(), rate)
        assert_close(len(stream.z), -torch.log2(mass).sum().item())


def table_bits(counts: Array) -> float:
    """Bits of symbols with these counts out of 2**CDF_BITS."""
    return float((CDF_BITS - np.log2(counts.astype(np.float64))).sum())


def assert_close(num_bytes: int, bits: float) -> None:
    assert bits / 8 * 0.99 - 32 <= num_bytes <= bits / 8 * 1.01 + 32, (num_bytes, bits / 8)


def test_bits_of_a_training_pass_foretell_the_bytes(lively: tuple[Pack, CodecParts]) -> None:
    """Noise in place of rounding and continuous sigma indexes: an estimate, but of the right size."""
    pack, parts = lively
    prompt, encoder = pack.prompt("detect"), FeatureEncoder(pack, engine="ort-cpu")
    canvas = smooth_photo(416, 352, seed=9)
    image = torch.from_numpy(canvas).permute(2, 0, 1)[None].float().repeat(4, 1, 1, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        coded = parts.codec(image, torch.arange(4), parts.gains, parts.prompt, parts.hyper_prior)
    for point, bits in enumerate(coded.bits.tolist()):
        stream = parse(encoder.compress(canvas, prompt, float(point), (416, 352)).data)
        assert len(stream.z) + len(stream.y) == pytest.approx(bits / 8, rel=0.1, abs=32), point

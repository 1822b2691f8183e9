"""Checkpoints -> pack contents: every graph exported and gated, tables built, prompt tensors collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim
from torch.utils.flop_counter import FlopCounterMode

from splitcodec.entropy import Z_MAX, SymbolTables, build_gaussian_tables
from splitcodec.errors import TrainingError
from splitcodec.export.fit_tables import integer_counts
from splitcodec.export.graphs import (
    CodecGraph,
    HeadGraph,
    HyperEncoderGraph,
    PictureGraph,
    ScaleGraph,
    TailGraph,
    latent_graphs,
)
from splitcodec.export.half import round_to_half
from splitcodec.export.integers import base_branch, grid, prompt_bits, prompt_branch
from splitcodec.export.to_onnx import ExportInput, check_export, to_onnx
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.prompts.schema import ExactConv

Array = NDArray[np.float32] | NDArray[np.int32]
# Batch, height, width of the export and the numeric gate. No multiples of 64: where the hyper-latent fits
# exactly, the tracer takes the crop of its upsampled form for nothing and drops it from the graph.
EXAMPLE = (2, 416, 416)


@dataclass(frozen=True)
class CodecGraphs:
    """ONNX bytes, multiplications per input pixel, and gate results of the five codec graphs.

    analysis_macs: of g_a alone, which is the head without what the prompts add.
    """

    files: dict[str, bytes]
    macs_per_pixel: dict[str, float]
    gaps: dict[str, float]
    exact_bound: dict[str, ExactConv]
    tables: SymbolTables
    analysis_macs: float


def export_codec(codec: FeatureCodec, prompt: Mapping[str, Tensor]) -> CodecGraphs:
    """Export and gate the five graphs; `prompt` (integer form for h_s_scale) serves as example inputs."""
    if codec.sizes.context == "mean-scale":
        raise TrainingError(
            f"{codec.sizes.name} takes scales from its context; floats differ between machines, so it "
            "measures likelihoods in training and cannot be exported"
        )
    tables = build_gaussian_tables()
    examples = _examples(codec, tables)
    files: dict[str, bytes] = {}
    macs: dict[str, float] = {}
    gaps: dict[str, float] = {}
    scale = ScaleGraph(codec)
    quantizer, decoder = latent_graphs(codec)
    graphs: dict[str, CodecGraph] = {
        "head": HeadGraph(codec),
        "hyper_encoder": HyperEncoderGraph(codec),
        "scale": scale,
        "quantizer": quantizer,
        "decoder": decoder,
    }
    for name, graph in graphs.items():
        inputs = [examples[item] for item in graph.inputs if item in examples]
        inputs += [ExportInput(item, prompt[item].float(), {}) for item in graph.prompt]
        files[name] = to_onnx(graph, inputs, graph.outputs)
        feeds = {item.name: item.example.numpy() for item in inputs}
        gaps[name] = check_export(name, files[name], graph, feeds, exact=name == "scale")
        macs[name] = macs_per_pixel(graph, [item.example for item in inputs])
    analysis = macs_per_pixel(codec.g_a, [examples["image"].example])
    return CodecGraphs(files, macs, gaps, exact_bound(scale), tables, analysis)


def export_tail(graph: TailGraph | PictureGraph, feature_channels: int) -> tuple[bytes, float, float]:
    """ONNX bytes of what reads the feature, its multiplications per input pixel, its gate result.

    Its weights are rounded to float16, in place, and stored so.
    """
    round_to_half(graph)
    batch, height, width = EXAMPLE
    torch.manual_seed(3)
    example = torch.randn(batch, feature_channels, height // 8, width // 8)
    dims = {
        0: Dim("batch", max=64),
        2: 4 * Dim("cell_rows", min=1, max=64),
        3: 4 * Dim("cell_columns", min=1, max=64),
    }
    data = to_onnx(graph, [ExportInput("feature", example, dims)], graph.outputs, half=True)
    gap = check_export("tail", data, graph, {"feature": example.numpy()})
    return data, macs_per_pixel(graph, [example]), gap


def exact_bound(scale: ScaleGraph) -> dict[str, ExactConv]:
    """What a prompt's integer convolutions must keep to; the last one shares its sum with the base."""
    bound = {}
    for i, shift in enumerate(scale.prompt_shifts):
        addend = scale.base_worst_case if i == len(scale.prompt_shifts) - 1 else 0
        bound[f"h_s_scale.conv{i}"] = ExactConv(
            input_limit=grid(i).input_limit, shift=shift, addend_limit=addend
        )
    return bound


def prompt_tensors(
    codec: FeatureCodec, prompt: TaskPrompt, gains: RateGains, hyper_prior: HyperPrior
) -> dict[str, Array]:
    """All a prompt pack carries: convolutions (h_s_scale as integers), gains, index shifts, z tables."""
    tensors = {name: value.detach().float() for name, value in prompt.tensors().items()}
    bits = prompt_bits(base_branch(codec.scale.tensors()))
    for i, conv in enumerate(prompt_branch("h_s_scale.", tensors, bits)):
        tensors[f"h_s_scale.conv{i}.weight"], tensors[f"h_s_scale.conv{i}.bias"] = conv.weight, conv.bias
    arrays: dict[str, Array] = {name: value.numpy() for name, value in tensors.items()}
    arrays["rate.gain_y"] = gains.log_gain_y.detach().exp().float().numpy()
    arrays["rate.gain_z"] = gains.log_gain_z.detach().exp().float().numpy()
    arrays["rate.scale_shift"] = np.rint(gains.index_shift.detach().numpy() * 256.0).astype(np.int32)
    arrays["rate.z_counts"] = hyper_counts(hyper_prior)
    return arrays


def hyper_counts(hyper_prior: HyperPrior) -> NDArray[np.int32]:
    """Factorised z tables (K, Cz, 2*Z_MAX+1) int32, every count >= 1, rows summing to 2**CDF_BITS."""
    channels = hyper_prior.models[0].channels
    symbols = torch.arange(-Z_MAX, Z_MAX + 1, dtype=torch.float32)
    grid_z = symbols[None, None, None, :].repeat(1, channels, 1, 1)
    with torch.no_grad():
        masses = [
            hyper_prior.likelihood(grid_z, k)[0, :, 0].double().numpy()
            for k in range(len(hyper_prior.models))
        ]
    return integer_counts(np.stack(masses))


def macs_per_pixel(graph: nn.Module, examples: list[Tensor]) -> float:
    """Multiplications of the convolutions per pixel of the network input."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph(*examples)
    batch, height, width = EXAMPLE
    return round(counter.get_total_flops() / 2 / (batch * height * width), 1)


def _examples(codec: FeatureCodec, tables: SymbolTables) -> dict[str, ExportInput]:
    sizes = codec.sizes
    batch, height, width = EXAMPLE
    n = Dim("batch", max=64)
    cells = {2: 32 * Dim("cell_rows", min=1, max=64), 3: 32 * Dim("cell_columns", min=1, max=64)}
    latent = {2: 2 * Dim("cell_rows", min=1, max=64), 3: 2 * Dim("cell_columns", min=1, max=64)}
    halves = {2: Dim("cell_rows", min=1, max=64), 3: Dim("cell_columns", min=1, max=64)}
    hyper = {2: Dim("hyper_rows", min=1, max=32), 3: Dim("hyper_columns", min=1, max=32)}
    h, w = height // 16, width // 16
    y, z = sizes.latent_channels, sizes.hyper_channels
    torch.manual_seed(1)

    def item(name: str, value: Tensor, axes: dict[int, object]) -> ExportInput:
        return ExportInput(name, value, {0: n, **axes})

    z_symbols = torch.randint(-4, 5, (batch, z, -(-h // 4), -(-w // 4))).float()
    values = [
        item("image", torch.rand(batch, 3, height, width) * 255.0, cells),
        item("y", torch.randn(batch, y, h, w) * 3.0, latent),
        item("symbols", torch.round(torch.randn(batch, y, h, w)), latent),
        item("symbol_limit", torch.full((batch, y, h, w), float(tables.limit[0])), latent),
        item("held", torch.randint(0, 2, (batch, 1, h // 2, w // 2)).float(), halves),
        item("kept", torch.randn(batch, y, h, w) * 3.0, latent),
        item("z_symbols", z_symbols, hyper),
        item("gain_y", torch.rand(batch, y, 1, 1) + 0.5, {}),
        item("gain_y_inv", torch.rand(batch, y, 1, 1) + 0.5, {}),
        item("gain_z", torch.rand(batch, z, 1, 1) + 0.5, {}),
        item("gain_z_inv", torch.rand(batch, z, 1, 1) + 0.5, {}),
        item("rate_shift", torch.randint(-3, 4, (batch, y, 1, 1)).float(), {}),
    ]
    return {value.name: value for value in values}

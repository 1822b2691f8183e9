"""The exported graphs: tensors in, tensors out, prompts and gains as inputs.

They call the models, they repeat nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitcodec.entropy import SIGMA_LEVELS
from splitcodec.export.integers import base_branch, grid, prompt_bits
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.context import HeldCells, SpatialChannelContext
from splitcodec.models.exact import ACT_MAX, ScaleBranch
from splitcodec.models.prompts import PromptConv
from splitcodec.models.transforms import FeatureAdapter, ImageExtractor
from splitcodec.packs.schema import (
    GRAPH_INPUTS,
    HOLD_INPUTS,
    IMPORTANCE_OUTPUT,
    LATENT_OUTPUT,
    PICTURE_OUTPUT,
)
from splitcodec.training.cut import NamedOutputs
from splitcodec.training.pixels import PixelAdapter, as_pixels


def prompt_names(codec: FeatureCodec, *groups: str) -> list[str]:
    """Names of a group's prompt tensors, in the order the graphs take them."""
    return [
        f"{g}.conv{i}.{part}"
        for g in groups
        for i in range(len(codec.layout[g]))
        for part in ("weight", "bias")
    ]


class CodecGraph(nn.Module):
    """Base of the graphs: `inputs` names every input, the prompt tensors last."""

    outputs: tuple[str, ...] = ()

    def __init__(self, codec: FeatureCodec, inputs: tuple[str, ...], groups: tuple[str, ...]) -> None:
        super().__init__()
        self.codec = codec
        self.prompt = prompt_names(codec, *groups)
        self.inputs = [*inputs, *self.prompt]


class HeadGraph(CodecGraph):
    """image, gain_y, g_a.*, select.* -> y, importance."""

    outputs: tuple[str, ...] = ("y", IMPORTANCE_OUTPUT)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, ("image", "gain_y"), ("g_a", "select"))

    def forward(self, image: Tensor, gain_y: Tensor, *prompt: Tensor) -> tuple[Tensor, Tensor]:
        return self.codec.head(image, gain_y, dict(zip(self.prompt, prompt, strict=True)))


class HyperEncoderGraph(CodecGraph):
    """y, gain_z, h_a.* -> z_symbols, rounded half up."""

    outputs: tuple[str, ...] = ("z_symbols",)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, ("y", "gain_z"), ("h_a",))

    def forward(self, y: Tensor, gain_z: Tensor, *prompt: Tensor) -> Tensor:
        z = self.codec.hyper(y, gain_z, dict(zip(self.prompt, prompt, strict=True)))
        return torch.floor(z + 0.5)


class HeldQuantizerGraph(CodecGraph):
    """y, z_symbols, gain_z_inv, symbol_limit, held, kept, h_s_mean.* -> symbols, latent.

    The latent is y_hat with gain: `kept` where a cell is held, where symbols are 0.
    """

    outputs: tuple[str, ...] = ("symbols", LATENT_OUTPUT)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, (*GRAPH_INPUTS["quantizer"], *HOLD_INPUTS), ("h_s_mean",))

    def forward(
        self,
        y: Tensor,
        z_symbols: Tensor,
        gain_z_inv: Tensor,
        symbol_limit: Tensor,
        held: Tensor,
        kept: Tensor,
        *prompt: Tensor,
    ) -> tuple[Tensor, Tensor]:
        support = self.codec.support(z_symbols, gain_z_inv, dict(zip(self.prompt, prompt, strict=True)), y)
        steps = self.codec.context.quantize_held(y, support, symbol_limit, HeldCells(held, kept))
        return steps.symbols, steps.latent


class HeldDecoderGraph(CodecGraph):
    """symbols, z_symbols, gain_z_inv, gain_y_inv, held, kept, h_s_mean.*, g_s.* -> feature, latent."""

    outputs: tuple[str, ...] = ("feature", LATENT_OUTPUT)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, (*GRAPH_INPUTS["decoder"], *HOLD_INPUTS), ("h_s_mean", "g_s"))

    def forward(
        self,
        symbols: Tensor,
        z_symbols: Tensor,
        gain_z_inv: Tensor,
        gain_y_inv: Tensor,
        held: Tensor,
        kept: Tensor,
        *prompt: Tensor,
    ) -> tuple[Tensor, Tensor]:
        tensors = dict(zip(self.prompt, prompt, strict=True))
        support = self.codec.support(z_symbols, gain_z_inv, tensors, symbols)
        steps = self.codec.context.dequantize_held(symbols, support, HeldCells(held, kept))
        return self.codec.synthesize(steps.latent, steps.means, gain_y_inv, tensors), steps.latent


class QuantizerGraph(CodecGraph):
    """For contexts that hold no cells: y, z_symbols, gain_z_inv, symbol_limit, h_s_mean.* -> symbols."""

    outputs: tuple[str, ...] = ("symbols",)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, ("y", "z_symbols", "gain_z_inv", "symbol_limit"), ("h_s_mean",))

    def forward(
        self, y: Tensor, z_symbols: Tensor, gain_z_inv: Tensor, symbol_limit: Tensor, *prompt: Tensor
    ) -> Tensor:
        tensors = dict(zip(self.prompt, prompt, strict=True))
        support = self.codec.support(z_symbols, gain_z_inv, tensors, y)
        return self.codec.context.quantize(y, support, symbol_limit)[0]


class DecoderGraph(CodecGraph):
    """For contexts that hold no cells: symbols, z_symbols, gains, h_s_mean.*, g_s.* -> feature."""

    outputs: tuple[str, ...] = ("feature",)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, ("symbols", "z_symbols", "gain_z_inv", "gain_y_inv"), ("h_s_mean", "g_s"))

    def forward(
        self, symbols: Tensor, z_symbols: Tensor, gain_z_inv: Tensor, gain_y_inv: Tensor, *prompt: Tensor
    ) -> Tensor:
        tensors = dict(zip(self.prompt, prompt, strict=True))
        support = self.codec.support(z_symbols, gain_z_inv, tensors, symbols)
        means = self.codec.context.dequantize(symbols, support)
        return self.codec.reconstruct(symbols, means, gain_y_inv, tensors)


def latent_graphs(codec: FeatureCodec) -> tuple[CodecGraph, CodecGraph]:
    """Quantizer and decoder: with held cells where the context knows them."""
    if isinstance(codec.context, SpatialChannelContext):
        return HeldQuantizerGraph(codec), HeldDecoderGraph(codec)
    return QuantizerGraph(codec), DecoderGraph(codec)


class ScaleGraph(CodecGraph):
    """z_symbols, rate_shift, h_s_scale.* -> sigma_index. Integers only: Conv, x*2**-s, Floor, Clip."""

    outputs: tuple[str, ...] = ("sigma_index",)

    def __init__(self, codec: FeatureCodec) -> None:
        super().__init__(codec, ("z_symbols", "rate_shift"), ("h_s_scale",))
        self.base_layout = codec.scale.layout
        self.prompt_layout = codec.layout["h_s_scale"]
        base = base_branch(codec.scale.tensors())
        self.bits = prompt_bits(base)
        self.base_shifts = [conv.shift for conv in base]
        self.prompt_shifts = [grid(i, bits).shift for i, bits in enumerate(self.bits)]
        for i, conv in enumerate(base):
            self.register_buffer(f"weight{i}", conv.weight)
            self.register_buffer(f"bias{i}", conv.bias)
        self.base_worst_case = base[-1].worst_case()
        self.codec = nn.Identity()  # the float branch must not enter this graph

    def forward(self, z_symbols: Tensor, rate_shift: Tensor, *prompt: Tensor) -> Tensor:
        base = [
            getattr(self, f"{part}{i}") for i in range(len(self.base_shifts)) for part in ("weight", "bias")
        ]
        total = _sum(z_symbols, base, self.base_layout, self.base_shifts)
        total = total + _sum(z_symbols, list(prompt), self.prompt_layout, self.prompt_shifts)
        index = F.pixel_shuffle(requantize(total, self.base_shifts[-1]), 2)
        return torch.clamp(index + rate_shift, 0.0, float(SIGMA_LEVELS - 1))


def _sum(x: Tensor, tensors: list[Tensor], layout: tuple[PromptConv, ...], shifts: list[int]) -> Tensor:
    """The last convolution's accumulators, not yet brought back by its shift."""
    for i, conv in enumerate(layout):
        x = conv.apply(x, tensors[2 * i], tensors[2 * i + 1])
        if i < len(layout) - 1:
            x = torch.clamp(requantize(x, shifts[i]), 0.0, float(ACT_MAX))
    return x


def requantize(total: Tensor, shift: int) -> Tensor:
    """floor((total + 2**(shift-1)) * 2**-shift): exact for integers below 2**24."""
    return torch.floor((total + float(1 << (shift - 1))) * (1.0 / float(1 << shift)))


class TailGraph(nn.Module):
    """feature -> the task network's outputs: adapter, then the trained layers behind the split."""

    def __init__(
        self, adapter: FeatureAdapter | PixelAdapter, tail: NamedOutputs, outputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.adapter, self.tail, self.outputs = adapter, tail, outputs
        self.inputs = ["feature"]

    def forward(self, feature: Tensor) -> tuple[Tensor, ...]:
        values = self.tail(self.adapter(feature))
        return tuple(values[name] for name in self.outputs)


class PictureGraph(nn.Module):
    """feature -> picture, RGB 0..255."""

    def __init__(self, extractor: ImageExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.inputs, self.outputs = ["feature"], (PICTURE_OUTPUT,)

    def forward(self, feature: Tensor) -> tuple[Tensor]:
        return (as_pixels(self.extractor(feature)),)


__all__ = [
    "DecoderGraph",
    "HeadGraph",
    "HeldDecoderGraph",
    "HeldQuantizerGraph",
    "HyperEncoderGraph",
    "PictureGraph",
    "QuantizerGraph",
    "ScaleBranch",
    "ScaleGraph",
    "TailGraph",
    "latent_graphs",
]

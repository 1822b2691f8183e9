"""The scale graph in int64 numpy, where nothing is rounded; prompts and hyper-latents near its bounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from training_rig import TINY

from splitcodec.entropy import Z_MAX
from splitcodec.export.graphs import ScaleGraph
from splitcodec.export.integers import LAST, grid
from splitcodec.models.exact import ACT_MAX
from splitcodec.models.prompts import PromptConv, prompt_layout

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
PARTS = ("weight", "bias")


def shuffle(x: Integers, factor: int) -> Integers:
    """Depth to space in the channel order of torch's pixel_shuffle."""
    n, channels, height, width = x.shape
    cells = x.reshape(n, channels // factor**2, factor, factor, height, width)
    return cells.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, height * factor, width * factor)


def convolve(x: Integers, weight: Integers, bias: Integers, conv: PromptConv) -> Integers:
    """The convolution and its depth-to-space in int64: nothing is ever rounded."""
    height, width, pad = x.shape[2], x.shape[3], conv.kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = np.broadcast_to(bias[:, None, None], (len(x), conv.outputs, height, width)).copy()
    for i in range(conv.kernel):
        for j in range(conv.kernel):
            part, taps = padded[:, :, i : i + height, j : j + width], weight[:, :, i, j]
            if conv.depthwise:
                total += taps[:, 0, None, None] * part
            else:
                total += np.einsum("oc,nchw->nohw", taps, part)
    return shuffle(total, conv.shuffle)


def requantise(total: Integers, shift: int) -> Integers:
    """Rounding division by 2**shift; >> is floor for negative integers too."""
    return (total + (1 << (shift - 1))) >> shift


def last_sum(
    layout: tuple[PromptConv, ...], tensors: Mapping[str, Floats], z: Floats, shifts: list[int]
) -> Integers:
    """The last convolution's sum in int64, before it is rounded; tensors: conv0.weight ... conv3.bias."""
    x = z.astype(np.int64)
    for i, conv in enumerate(layout):
        weight, bias = (tensors[f"conv{i}.{part}"].astype(np.int64) for part in PARTS)
        x = convolve(x, weight, bias, conv)
        if i < LAST:
            x = np.clip(requantise(x, shifts[i]), 0, ACT_MAX)
    return x


def base_tensors(scale: ScaleGraph) -> dict[str, Floats]:
    return {f"conv{i}.{part}": getattr(scale, f"{part}{i}").numpy() for i in range(4) for part in PARTS}


def without_group(prompt: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name.removeprefix("h_s_scale."): value for name, value in prompt.items()}


def simulate(scale: ScaleGraph, prompt: Mapping[str, Floats], z: Floats, rate_shift: Floats) -> Integers:
    """The scale graph in int64 numpy, from the same weights."""
    base = last_sum(scale.base_layout, base_tensors(scale), z, scale.base_shifts)
    bend = last_sum(scale.prompt_layout, without_group(prompt), z, scale.prompt_shifts)
    index = shuffle(requantise(base + bend, scale.base_shifts[LAST]), 2)
    return np.clip(index + rate_shift.astype(np.int64), 0, 63)


def extreme_prompt(share: float, seed: int = 0) -> dict[str, Floats]:
    """A prompt of integers whose worst case comes to `share` of every convolution's bound."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, Floats] = {}
    for i, conv in enumerate(prompt_layout(TINY)["h_s_scale"]):
        layout = grid(i)
        fan_in = int(np.prod(conv.shape[1:]))
        room = layout.limit * share - (1 << layout.shift)
        top = max(1, int(room / (fan_in * layout.input_limit)))
        weight = (
            rng.integers(-top, top + 1, conv.shape) if fan_in > 1 else rng.choice([-top, top], conv.shape)
        )
        weight[0] = np.where(rng.random(conv.shape[1:]) < 0.5, -top, top)
        bias = rng.integers(-(1 << layout.shift), (1 << layout.shift) + 1, conv.outputs) // 2
        tensors[f"h_s_scale.conv{i}.weight"] = weight.astype(np.float32)
        tensors[f"h_s_scale.conv{i}.bias"] = bias.astype(np.float32)
    return tensors


def random_z(count: int, size: tuple[int, int] = (3, 2)) -> Floats:
    """count hyper-latents; every other one has nothing but the two extremes."""
    rng = np.random.default_rng(7)
    z = rng.integers(-Z_MAX, Z_MAX + 1, (count, TINY.hyper_channels, *size))
    z[::2] = rng.choice([-Z_MAX, Z_MAX], z[::2].shape)
    return z.astype(np.float32)


def shifts(count: int) -> Floats:
    rng = np.random.default_rng(8)
    return rng.integers(-9, 10, (count, TINY.latent_channels, 1, 1)).astype(np.float32)

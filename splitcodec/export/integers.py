"""Integer form of the exact scale branch: weights rounded to a power-of-two grid, every bound asserted.

With activation grid 1/16 and weight grid 2**-p an accumulator counts units of 2**-p (first layer, whose
inputs are plain integers) or 2**-(p+4); the shift that brings it back is exact. The last layers of base and
prompt add up before they are rounded, so each gets half of the float32 range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from splitcodec.entropy import Z_MAX
from splitcodec.errors import InexactScaleBranch
from splitcodec.models.exact import (
    ACT_MAX,
    ACT_STEPS,
    FLOAT_EXACT,
    INDEX_START,
    INDEX_UNIT,
    SUMMED_LIMIT,
    IntegerConv,
)

GRID_BITS = (12, 10, 10, 10)  # p of each convolution of every prompt; the base starts from the same
MIN_GRID_BITS = 6  # coarser than 1/64 a weight would no longer be what was trained
LAST = len(GRID_BITS) - 1
_ACT_BITS = int(math.log2(ACT_STEPS))
_INDEX_BITS = _ACT_BITS - int(math.log2(INDEX_UNIT))


@dataclass(frozen=True)
class Grid:
    """Fixed-point layout of convolution i: input limit A, weight scale, accumulator scale, shift, bound."""

    input_limit: int
    weight_scale: int
    sum_scale: int
    shift: int
    limit: int


def grid(i: int, bits: int | None = None) -> Grid:
    """The layout of convolution i (0..3) with weights in units of 2**-bits, GRID_BITS[i] by default."""
    p = GRID_BITS[i] if bits is None else bits
    limit = SUMMED_LIMIT if i == LAST else FLOAT_EXACT
    if i == 0:
        return Grid(Z_MAX, 1 << p, 1 << p, p - _ACT_BITS, limit)
    shift = p + _INDEX_BITS if i == LAST else p
    return Grid(ACT_MAX, 1 << p, ACT_STEPS << p, shift, limit)


def integer_conv(
    i: int, name: str, weight: Tensor, bias: Tensor, starts_index: bool = False, bits: int | None = None
) -> IntegerConv:
    """Round one trained convolution onto its grid.

    starts_index: add the index every codec starts from (the base's last convolution only). Raises
    InexactScaleBranch if a sum of an output channel could leave the integers float32 holds.
    """
    layout = grid(i, bits)
    whole = torch.floor(weight.detach().double() * layout.weight_scale + 0.5)
    offset = torch.floor(bias.detach().double() * layout.sum_scale + 0.5)
    if starts_index:
        offset = offset + (INDEX_START << layout.shift)
    conv = IntegerConv(whole.float(), offset.float(), layout.input_limit, layout.shift, layout.limit)
    if conv.worst_case() >= layout.limit:
        raise InexactScaleBranch(
            f"{name}: sum|w|*{layout.input_limit} + |b| + 2**{layout.shift - 1} is {conv.worst_case()}, "
            f"limit {layout.limit}; train with smaller weights in this layer"
        )
    return conv


def base_branch(tensors: Mapping[str, Tensor]) -> tuple[IntegerConv, ...]:
    """The base's four convolutions, each on the finest grid that keeps its bound.

    The last one's grid is also that of every prompt's last convolution: their sums are added.
    """
    return tuple(_finest(i, tensors) for i in range(len(GRID_BITS)))


def _finest(i: int, tensors: Mapping[str, Tensor]) -> IntegerConv:
    weight, bias = tensors[f"conv{i}.weight"], tensors[f"conv{i}.bias"]
    for bits in range(GRID_BITS[i], MIN_GRID_BITS, -1):
        try:
            return integer_conv(i, f"conv{i}", weight, bias, i == LAST, bits)
        except InexactScaleBranch:
            continue
    return integer_conv(i, f"conv{i}", weight, bias, i == LAST, MIN_GRID_BITS)


def prompt_bits(base: tuple[IntegerConv, ...]) -> tuple[int, ...]:
    """Grid of each convolution of a prompt that goes with this base."""
    return (*GRID_BITS[:LAST], base[LAST].shift - _INDEX_BITS)


def prompt_branch(
    prefix: str, tensors: Mapping[str, Tensor], bits: tuple[int, ...]
) -> tuple[IntegerConv, ...]:
    """A prompt's convolutions `<prefix>conv0` ... `<prefix>conv3` in integer form."""
    names = [f"{prefix}conv{i}" for i in range(len(GRID_BITS))]
    return tuple(
        integer_conv(i, name, tensors[f"{name}.weight"], tensors[f"{name}.bias"], bits=bits[i])
        for i, name in enumerate(names)
    )

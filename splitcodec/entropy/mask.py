"""Which cells are held: an adaptive binary range coder, integers alone (docs/bitstream.md, section 9).

A cell's probability depends on its left and upper neighbours and on the same cell of the frame before; each
of the eight contexts learns as it goes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import CorruptBitstream

Mask = NDArray[np.bool_]

PROBABILITY_BITS: Final = 12
LEARNING_SHIFT: Final = 4
_RANGE: Final = (1 << 32) - 1
_SMALLEST: Final = 1 << 24  # the range is kept at or above it, a byte at a time
_HELD_AT_FIRST: Final = (512, 2048, 2048, 3072, 1024, 3072, 3072, 3968)
"""Probability of `held` in each context, times 4096; context: left + 2 * above + 4 * former."""


def encode_mask(held: Mask, former: Mask) -> bytes:
    """held, former: bool [rows, columns], those of this frame and of the one before -> the substream."""
    chances, low, size, num_bytes = list(_HELD_AT_FIRST), 0, _RANGE, 0
    for bit, context in _cells(held, former):
        bound = (size >> PROBABILITY_BITS) * chances[context]
        if bit:
            size = bound
        else:
            low, size = low + bound, size - bound
        chances[context] = _learned(chances[context], bit)
        while size < _SMALLEST:
            low, size, num_bytes = low << 8, size << 8, num_bytes + 1
    return _shortest(low, size, num_bytes + 4)


def decode_mask(data: bytes, former: Mask) -> Mask:
    """The mask of a substream, of the shape of `former`. CorruptBitstream: no encoder writes these bytes."""
    held = np.zeros(former.shape, np.bool_)
    chances, size, position = list(_HELD_AT_FIRST), _RANGE, 4
    code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
    rows, columns = former.shape
    before = former.tolist()
    above = [False] * columns
    for row in range(rows):
        left, line = False, []
        for column in range(columns):
            context = _context(left, above[column], before[row][column])
            bound = (size >> PROBABILITY_BITS) * chances[context]
            left = code < bound
            if left:
                size = bound
            else:
                code, size = code - bound, size - bound
            chances[context] = _learned(chances[context], left)
            while size < _SMALLEST:
                code = code << 8 | (data[position] if position < len(data) else 0)
                size, position = size << 8, position + 1
            line.append(left)
        held[row], above = line, line
    if encode_mask(held, former) != data:
        raise CorruptBitstream(f"a mask of {len(data)} bytes that no encoder writes; send a key frame")
    return held


def _cells(held: Mask, former: Mask) -> list[tuple[bool, int]]:
    """Every cell row by row, with its context."""
    cells, before = held.tolist(), former.tolist()
    above = [False] * held.shape[1]
    out = []
    for line, kept in zip(cells, before, strict=True):
        left = False
        for column, bit in enumerate(line):
            out.append((bit, _context(left, above[column], kept[column])))
            left = bit
        above = line
    return out


def _context(left: bool, above: bool, former: bool) -> int:
    return left + 2 * above + 4 * former


def _learned(chance: int, held: bool) -> int:
    """Stays within 1..4095: the range of neither answer is ever empty."""
    if held:
        return chance + ((1 << PROBABILITY_BITS) - chance >> LEARNING_SHIFT)
    return chance - (chance >> LEARNING_SHIFT)


def _shortest(low: int, size: int, num_bytes: int) -> bytes:
    """The fewest bytes that lie in [low, low + size) when zeros follow them."""
    for dropped in range(8 * num_bytes, -1, -8):
        value = -(-low >> dropped) << dropped
        if value < low + size:
            return value.to_bytes(num_bytes, "big").rstrip(b"\0")
    return low.to_bytes(num_bytes, "big").rstrip(b"\0")

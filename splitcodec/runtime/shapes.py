"""Optimisation profiles: which sizes of batch and picture an engine is built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from splitcodec.errors import RuntimeUnavailable

STRIDE: Final = {
    "image": 1,
    "feature": 8,
    "y": 16,
    "symbols": 16,
    "symbol_limit": 16,
    "kept": 16,
    "held": 32,
    "z_symbols": 64,
}
"""Picture pixels per cell of each input with a height and a width; other inputs vary in the batch only."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class SizeRange:
    """Smallest, usual and largest batch and picture side (pixels, multiples of 32) an engine must take.

    A session runs larger batches in parts, so the largest batch bounds memory and not what may be asked for.
    """

    batch: tuple[int, int, int] = (1, 1, 8)
    height: tuple[int, int, int] = (32, 416, 2048)
    width: tuple[int, int, int] = (32, 416, 2048)

    def profile(self, name: str, shape: Shape) -> tuple[Shape, Shape, Shape]:
        """Smallest, usual and largest shape of an input whose graph shape is `shape`, with -1 for free axes.

        Raises RuntimeUnavailable for a free axis that is neither batch nor height nor width.
        """
        small, usual, large = (
            tuple(self._side(name, axis, which) if size < 0 else size for axis, size in enumerate(shape))
            for which in range(3)
        )
        return small, usual, large

    def _side(self, name: str, axis: int, which: int) -> int:
        if axis == 0:
            return self.batch[which]
        if name in STRIDE and axis in (2, 3):
            pixels = (self.height, self.width)[axis - 2][which]
            return -(-pixels // STRIDE[name])
        raise RuntimeUnavailable(
            f"input {name} has a free axis {axis}, which no profile covers; export it with fixed size"
        )

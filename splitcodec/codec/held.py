"""What one frame of a camera leaves for the next, and which cells of it the next one holds.

A cell is 2x2 latent positions, 32x32 pixels. A held cell is not coded: both sides copy the latent they have,
and nothing drifts. A state is named by a running hash over the integers that were decoded since the key
frame: a decoder never builds on another state than that of the encoder.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import Header
from splitcodec.entropy import SymbolTables, bits_of
from splitcodec.held_bitstream import NAME_BYTES
from splitcodec.packs.schema import HOLD_INPUTS
from splitcodec.prompts import Prompt

Array = NDArray[Any]
Cells = NDArray[np.bool_]

CELL: Final = 2  # latent positions on a side
HYPER_CELLS: Final = 2  # cells on a side of a z position
_NUMBERS: Final = struct.Struct("<HHHHH")
MAX_CHAIN_FRAMES: Final = 1000
"""Key frame included: whoever lost a state decodes the chain anew."""
WORTH_OF_A_BIT: Final = 0.01
"""Squared error of the latent, without gain, that a saved bit is worth."""


@dataclass(frozen=True, eq=False)
class LatentState:
    """The end of a chain of frames: a key frame and those that held cells since.

    name: SHA-256, the running hash; header: of the key frame; prompt: its prompt; latent: float32
    [1, Cy, h, w], y_hat with gain; z: int32 [Cz, hz, wz]; held: bool [h/2, w/2] of the last frame; frames: in
    the chain.
    """

    name: bytes
    header: Header
    prompt: Prompt
    latent: Array
    z: Array
    held: Cells
    frames: int

    @property
    def wire_name(self) -> bytes:
        """What a frame that builds on this state calls it."""
        return self.name[:NAME_BYTES]

    @property
    def num_bytes(self) -> int:
        """Of memory, about."""
        return int(self.latent.nbytes + self.z.nbytes + self.held.nbytes)

    def after(self, held: Cells, latent: Array, z: Array, symbols: Array) -> LatentState:
        """The state after one more frame. symbols: int32 [Cy, n] of the coded positions."""
        return replace(
            self,
            name=_name(self.name + np.packbits(held).tobytes(), z, symbols),
            latent=latent,
            z=z,
            held=held,
            frames=self.frames + 1,
        )


def first_state(header: Header, prompt: Prompt, latent: Array, z: Array, symbols: Array) -> LatentState:
    """The state after a key frame. latent: [1, Cy, h, w]; z: [Cz, hz, wz]; symbols: [Cy, h, w]."""
    fields = (header.codec_digest, header.prompt_digest, _NUMBERS.pack(*_numbers(header)))
    held = np.zeros((header.network_height // 32, header.network_width // 32), np.bool_)
    return LatentState(_name(b"".join(fields), z, symbols), header, prompt, latent, z, held, 1)


def choose_cells(
    y: Array, state: LatentState, coded: Array, bits: Array, gain_y: Array, worth: float
) -> Cells:
    """Cells whose error grows by less than their bits are worth: bool [h/2, w/2].

    y: float32 [1, Cy, h, w]; coded: its y_hat if nothing is held, same shape; bits: float [h/2, w/2] that
    each cell costs then; gain_y: [1, Cy, 1, 1]. Errors are measured on the latent without gain.
    """
    kept = ((y - state.latent) / gain_y) ** 2
    new = ((y - coded) / gain_y) ** 2
    return _per_cell((kept - new)[0].sum(axis=0)) <= worth * bits


def cell_bits(symbols: Array, index: Array, tables: SymbolTables) -> Array:
    """Bits of the y symbols (int32 [Cy, h, w]) of each cell: float [h/2, w/2]."""
    return _per_cell(bits_of(symbols, index, tables).sum(axis=0))


def held_positions(held: Cells) -> Cells:
    """The z positions all of whose cells are held: bool [hz, wz]."""
    rows, columns = (-(-side // HYPER_CELLS) for side in held.shape)
    padded = np.ones((rows * HYPER_CELLS, columns * HYPER_CELLS), np.bool_)
    padded[: held.shape[0], : held.shape[1]] = held
    grouped: Cells = padded.reshape(rows, HYPER_CELLS, columns, HYPER_CELLS).all(axis=(1, 3))
    return grouped


def coded_latent(held: Cells) -> Cells:
    """The latent positions of the cells that are coded: bool [h, w]."""
    return ~np.repeat(np.repeat(held, CELL, axis=0), CELL, axis=1)


def as_input(held: Cells) -> NDArray[np.float32]:
    """What the graphs take as `held`: float32 [1, 1, h/2, w/2]."""
    return held.astype(np.float32)[None, None]


def nothing_held(shape: tuple[int, ...]) -> dict[str, Array]:
    """The further inputs of quantizer and decoder for a latent [N, Cy, h, w] of which no cell is held."""
    batch, _, height, width = shape
    cells = np.zeros((batch, 1, height // CELL, width // CELL), np.float32)
    return dict(zip(HOLD_INPUTS, (cells, np.zeros(shape, np.float32)), strict=True))


def _per_cell(values: Array) -> Array:
    """[h, w] -> sums over cells, [h/2, w/2]."""
    rows, columns = values.shape[0] // CELL, values.shape[1] // CELL
    summed: Array = values.reshape(rows, CELL, columns, CELL).sum(axis=(1, 3))
    return summed


def _name(before: bytes, z: Array, symbols: Array) -> bytes:
    digest = hashlib.sha256(before)
    digest.update(z.astype("<i2").tobytes())
    digest.update(symbols.astype("<i2").tobytes())
    return digest.digest()


def _numbers(header: Header) -> tuple[int, ...]:
    return (
        header.rate_fixed,
        header.source_height,
        header.source_width,
        header.network_height,
        header.network_width,
    )

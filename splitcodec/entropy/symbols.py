"""The y substream: symbols coded with zero-mean tables that the sigma index chooses.

Symbols are coded grouped by sigma level, lowest level first, and inside a level in their own order
(C order of the array). So one rANS pass needs one table lookup per level instead of one per symbol.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from splitcodec.entropy.rans import Group, decode_groups, encode_groups
from splitcodec.entropy.tables import SymbolTables
from splitcodec.errors import SymbolOutOfRange


def sigma_crc(index: NDArray[np.uint8]) -> int:
    """CRC-32 (zlib) of a sigma index tensor, uint8, as its bytes in C order; 0..2**32-1."""
    return zlib.crc32(np.ascontiguousarray(index, dtype=np.uint8).tobytes())


def _grouped(index: NDArray[np.uint8], tables: SymbolTables) -> tuple[NDArray[np.intp], list[Group]]:
    """Coding order (n,) of the flat positions, and one group per sigma level."""
    sizes = np.bincount(index, minlength=tables.levels)
    if sizes.size > tables.levels:
        raise SymbolOutOfRange(f"sigma index {sizes.size - 1} is above the last table, {tables.levels - 1}")
    order = np.argsort(index, kind="stable")
    return order, list(zip(tables.models, sizes.tolist(), strict=True))


def encode_symbols(symbols: NDArray[np.int32], index: NDArray[np.uint8], tables: SymbolTables) -> bytes:
    """Encode symbols int32, any shape, with the table that `index` (uint8, same shape) names for each.

    Raises SymbolOutOfRange when a symbol is beyond its table's limit (clip with `tables.limit[index]`).
    """
    if symbols.shape != index.shape or symbols.dtype != np.int32 or index.dtype != np.uint8:
        raise SymbolOutOfRange(
            f"symbols {symbols.dtype} {symbols.shape} and index {index.dtype} {index.shape}: "
            "pass int32 and uint8 of one shape"
        )
    flat_index = index.reshape(-1)
    order, groups = _grouped(flat_index, tables)
    limit = tables.limit[flat_index[order]]
    ordered = symbols.reshape(-1)[order]
    beyond = (ordered < -limit) | (ordered > limit)
    if beyond.any():
        first = int(np.argmax(beyond))
        raise SymbolOutOfRange(
            f"symbol {ordered[first]} is beyond the limit of its sigma level, +-{limit[first]}; "
            "clip symbols before they are encoded"
        )
    return encode_groups(ordered + limit, groups)


def bits_of(
    symbols: NDArray[np.int32], index: NDArray[np.uint8], tables: SymbolTables
) -> NDArray[np.float32]:
    """What each symbol costs, float32 of their shape; for decisions of the encoder, never for coding."""
    bits: NDArray[np.float32] = tables.bits[index, symbols + tables.bits.shape[1] // 2]
    return bits


def decode_symbols(data: bytes, index: NDArray[np.uint8], tables: SymbolTables) -> NDArray[np.int32]:
    """Decode the symbols of a substream: int32, of the shape of `index` (uint8).

    Raises CorruptBitstream when the substream does not hold exactly these symbols.
    """
    if index.dtype != np.uint8:
        raise SymbolOutOfRange(f"sigma index is {index.dtype}; pass uint8")
    flat_index = index.reshape(-1)
    order, groups = _grouped(flat_index, tables)
    shifted = decode_groups(data, groups)
    symbols = np.empty(index.size, dtype=np.int32)
    symbols[order] = shifted - tables.limit[flat_index[order]]
    return symbols.reshape(index.shape)

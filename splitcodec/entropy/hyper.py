"""The z substream: hyper symbols coded with one fixed table per channel, channel after channel."""

import numpy as np
from numpy.typing import NDArray

from splitcodec.entropy.rans import Group, decode_groups, encode_groups, table_model
from splitcodec.entropy.tables import Z_MAX
from splitcodec.errors import InvalidTables, SymbolOutOfRange

HyperShape = tuple[int, int, int]


def _groups(shape: tuple[int, ...], counts: NDArray[np.int32]) -> list[Group]:
    if len(shape) != 3 or counts.shape != (shape[0], 2 * Z_MAX + 1):
        raise InvalidTables(
            f"z of shape {shape} and counts of shape {counts.shape} do not fit; "
            f"need (Cz, hz, wz) and (Cz, {2 * Z_MAX + 1})"
        )
    size = shape[1] * shape[2]
    return [(table_model(row, f"z table of channel {channel}"), size) for channel, row in enumerate(counts)]


def encode_hyper(z: NDArray[np.int32], counts: NDArray[np.int32]) -> bytes:
    """Encode z (Cz, hz, wz) int32 in -Z_MAX..Z_MAX with counts (Cz, 2*Z_MAX+1) as `ZTables.at_rate` gives.

    Raises SymbolOutOfRange when a symbol has no count.
    """
    if z.dtype != np.int32 or z.min(initial=0) < -Z_MAX or z.max(initial=0) > Z_MAX:
        raise SymbolOutOfRange(
            f"z is {z.dtype} in {z.min(initial=0)}..{z.max(initial=0)}; pass int32 clipped to +-{Z_MAX}"
        )
    return encode_groups(z.reshape(-1) + np.int32(Z_MAX), _groups(z.shape, counts))


def decode_hyper(data: bytes, shape: HyperShape, counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Decode z: int32 of `shape` (Cz, hz, wz), every value in -Z_MAX..Z_MAX.

    Raises CorruptBitstream when the substream does not hold exactly these symbols.
    """
    return (decode_groups(data, _groups(shape, counts)) - np.int32(Z_MAX)).reshape(shape)

"""One rANS stack of 32-bit words, coded in groups that share a table (docs/bitstream.md, "The coder").

The coder is constriction's AnsCoder: 64-bit state, 32-bit words, 24-bit probabilities. Only integers
decide: `table_model` gives constriction a table so that it uses exactly our counts.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import constriction
import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import CorruptBitstream, InvalidTables

CDF_BITS = 24  # fixed by constriction's default coder; every table sums to 2**CDF_BITS
WORD_BYTES = 4
END_STATE = (
    0x5C0D  # the encoder starts here, so a decoder must end here; costs nothing: the first symbol hides it
)

TableModel: TypeAlias = Any  # constriction ships no types
Group: TypeAlias = tuple[TableModel, int]  # a table and how many consecutive symbols use it


def check_counts(counts: NDArray[np.int32], name: str) -> None:
    """Raise InvalidTables unless counts (n,) int32 are n >= 2 numbers >= 1 that sum to 2**CDF_BITS."""
    total, smallest = int(counts.sum(dtype=np.int64)), int(counts.min(initial=1))
    if counts.size < 2 or smallest < 1 or total != 1 << CDF_BITS:
        raise InvalidTables(
            f"{name}: {counts.size} counts, smallest {smallest}, sum {total}; need at least 2 counts, "
            f"each >= 1, that sum to {1 << CDF_BITS}; export the pack again"
        )


def table_model(counts: NDArray[np.int32], name: str = "table") -> TableModel:
    """Build the model of one table: counts (n,) int32; it codes the symbols 0..n-1.

    Raises InvalidTables as `check_counts` does, with `name` in the message.

    constriction rounds cumulative probabilities to `floor(cumulative * scale) + symbol`, where
    `scale = (2**24 - n) / total`. It is given `counts - 1`: then the scale is exactly 1 and its
    integers are exactly ours. Probabilities `counts / 2**24` would NOT give our integers.
    """
    check_counts(counts, name)
    return constriction.stream.model.Categorical(counts.astype(np.float64) - 1.0, perfect=False)


def encode_groups(symbols: NDArray[np.int32], groups: Sequence[Group]) -> bytes:
    """Encode symbols (n,) int32, all within 0..len(table)-1, group after group; returns the substream."""
    coder = constriction.stream.stack.AnsCoder(np.array([END_STATE], dtype=np.uint32))
    end = symbols.size
    for model, size in reversed(groups):  # a stack: what is pushed last is decoded first
        if size:
            coder.encode_reverse(symbols[end - size : end], model)
            end -= size
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes().rstrip(b"\0")


def decode_groups(data: bytes, groups: Sequence[Group]) -> NDArray[np.int32]:
    """Decode all symbols of all groups, (n,) int32; inverse of `encode_groups`.

    Work and memory depend on `groups` and len(data) only. Raises CorruptBitstream when the substream
    is padded or does not end exactly with the last symbol.
    """
    if data.endswith(b"\0"):
        raise CorruptBitstream("substream ends in a zero byte, which no encoder writes; send the frame again")
    padded = data + bytes(-len(data) % WORD_BYTES)
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(padded, dtype="<u4").astype(np.uint32))
    out = np.empty(sum(size for _, size in groups), dtype=np.int32)
    start = 0
    for model, size in groups:
        if size:
            out[start : start + size] = coder.decode(model, size)
            start += size
    if coder.num_words() != 1 or coder.get_compressed()[0] != END_STATE:
        raise CorruptBitstream(
            f"substream of {len(data)} bytes does not end with symbol {out.size}; send the frame again"
        )
    return out

"""Batches larger than a graph's engine was built for, cut along the first axis and put together again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from splitcodec.errors import GraphFailed
from splitcodec.runtime.session import Array


def parts_of(
    name: str, inputs: Mapping[str, Array], batched: Collection[str], most: int
) -> list[Mapping[str, Array]]:
    """The inputs as one feed, or as several of at most `most` rows each.

    name: of the graph; batched: inputs whose first axis is the batch. One with a single row goes into every
    part, the others must have as many rows as each other: GraphFailed.
    """
    rows = max((len(inputs[one]) for one in batched), default=1)
    if rows <= most:
        return [inputs]
    for one in batched:
        if len(inputs[one]) not in (1, rows):
            raise GraphFailed(f"graph {name} got {rows} rows, but {one} has {len(inputs[one])}; give as many")
    cut = [one for one in batched if len(inputs[one]) == rows]
    return [
        {**inputs, **{one: _rows(inputs[one], start, start + most) for one in cut}}
        for start in range(0, rows, most)
    ]


def _rows(array: Array, start: int, stop: int) -> Array:
    """Some rows, writeable: a read-only array is taken for a constant that is kept on the device."""
    part = array[start:stop]
    return part if part.flags.writeable else part.copy()


def joined(outputs: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The outputs of every part, one after another along the first axis."""
    if len(outputs) == 1:
        return outputs[0]
    return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}

"""A prompt: the tensors that bend the shared codec towards one task, and its numbers for any rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitcodec.entropy import SymbolTables, ZTables
from splitcodec.errors import RateOutOfRange
from splitcodec.prompts.schema import Y_COUNTS, GraphName, TensorSpec
from splitcodec.prompts.tensors import frozen
from splitcodec.wire.names import RATE_ONE

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RateInputs:
    """What one rate feeds the graphs and the coder.

    gain_y, gain_y_inv, rate_shift: float32 [1, Cy, 1, 1] (rate_shift holds integers, in sigma levels);
    gain_z, gain_z_inv: float32 [1, Cz, 1, 1]; z_counts: int32 [Cz, 2*z_max+1].
    """

    gain_y: Array
    gain_z: Array
    gain_z_inv: Array
    gain_y_inv: Array
    rate_shift: Array
    z_counts: Array


@dataclass(frozen=True, eq=False)
class RateTable:
    """The trained rate points of a prompt.

    gain_y float32 [K, Cy], gain_z float32 [K, Cz], scale_shift int32 [K, Cy] in 1/256 sigma level, z the z
    tables.
    """

    gain_y: Array
    gain_z: Array
    scale_shift: Array
    z: ZTables

    @property
    def points(self) -> int:
        """Number K of trained rate points; rates run from 0 to K-1."""
        return len(self.gain_y)

    def to_fixed(self, rate: float) -> int:
        """Nearest u8.8 value of a rate; raises RateOutOfRange outside 0..K-1 and for NaN."""
        if not 0 <= rate <= self.points - 1:
            raise RateOutOfRange(
                f"rate {rate} is outside the trained rate points 0..{self.points - 1}; choose one inside"
            )
        return round(rate * RATE_ONE)

    def at(self, rate_fixed: int) -> RateInputs:
        """Inputs for a u8.8 rate: gains by geometric interpolation, the shift and the z table by integers
        alone.

        Raises RateOutOfRange outside 0..256*(K-1).
        """
        self.to_fixed(rate_fixed / RATE_ONE)
        point, t = min(rate_fixed >> 8, self.points - 1), rate_fixed & 255
        after = min(point + 1, self.points - 1)
        gain_y = _geometric(self.gain_y[point], self.gain_y[after], t / RATE_ONE)
        gain_z = _geometric(self.gain_z[point], self.gain_z[after], t / RATE_ONE)
        shift = self.scale_shift.astype(np.int64)
        shift_fixed = (shift[point] * (RATE_ONE - t) + shift[after] * t) >> 8
        return RateInputs(
            gain_y=_column(gain_y),
            gain_z=_column(gain_z),
            gain_z_inv=_column(1.0 / gain_z),
            gain_y_inv=_column(1.0 / gain_y),
            rate_shift=_column((shift_fixed + RATE_ONE // 2) >> 8),
            z_counts=self.z.at_rate(rate_fixed),
        )


def _geometric(low: Array, high: Array, t: float) -> Array:
    """float64 low**(1-t) * high**t; exactly `low` at t = 0."""
    if t == 0:
        return low.astype(np.float64)
    blend: Array = np.exp((1 - t) * np.log(low.astype(np.float64)) + t * np.log(high.astype(np.float64)))
    return blend


def _column(values: Array) -> Array:
    """[C] -> float32 [1, C, 1, 1], read-only."""
    return frozen(values.astype(np.float32).reshape(1, -1, 1, 1))


@dataclass(frozen=True, eq=False)
class Prompt:
    """A verified prompt; immutable, so whoever holds it may use it for as long as they like.

    digest, tail_sha256: hex SHA-256; tensors: graph inputs and rate tables by name, read-only;
    sigma_check: hex SHA-256 of the sigma indexes the scale graph must give on the check input;
    tables: fitted to this prompt's symbols, or None where the pack's shared ones are used.
    """

    task: str
    digest: str
    tail_sha256: str
    sigma_check: str
    tensors: Mapping[str, Array]
    schema: Mapping[str, TensorSpec]
    rate: RateTable = field(init=False)
    tables: SymbolTables | None = field(init=False)
    _inputs: Mapping[str, Mapping[str, Array]] = field(init=False, repr=False)
    _rates: dict[int, RateInputs] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        t = self.tensors
        rate = RateTable(
            t["rate.gain_y"], t["rate.gain_z"], t["rate.scale_shift"], ZTables(t["rate.z_counts"])
        )
        counts = t.get(Y_COUNTS)
        object.__setattr__(self, "tables", None if counts is None else SymbolTables.of_counts(counts))
        graphs = {graph for spec in self.schema.values() for graph in spec.graphs}
        inputs = {
            graph: MappingProxyType(
                {name: t[name] for name, spec in self.schema.items() if graph in spec.graphs}
            )
            for graph in graphs
        }
        object.__setattr__(self, "tensors", MappingProxyType(dict(t)))
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "_inputs", MappingProxyType(inputs))

    @property
    def wire_digest(self) -> bytes:
        """The 8 bytes that name this prompt in a bitstream header."""
        return bytes.fromhex(self.digest)[:8]

    def graph_inputs(self, graph: GraphName) -> Mapping[str, Array]:
        """The tensors that `graph` takes as inputs, by name."""
        return self._inputs.get(graph, MappingProxyType({}))

    def rate_inputs(self, rate_fixed: int) -> RateInputs:
        """`RateTable.at`, kept for rates seen before (at most 256*(K-1)+1 of them). Raises RateOutOfRange."""
        found = self._rates.get(rate_fixed)
        if found is None:
            found = self._rates[rate_fixed] = self.rate.at(rate_fixed)
        return found

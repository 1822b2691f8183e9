"""Integer count tables: how likely each symbol is, in units of 2**-CDF_BITS.

Tables are built once, at export, and shipped as integers; the services never rebuild them, because two
machines may round `exp` and `erf` differently. A table row holds counts >= 1 that sum to 2**CDF_BITS.
"""

import io
import math
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from splitcodec.entropy.rans import CDF_BITS, TableModel, check_counts, table_model
from splitcodec.errors import InvalidTables, RateOutOfRange
from splitcodec.wire.names import RATE_ONE

SIGMA_LEVELS = 64
SIGMA_MIN = 0.11  # smallest and largest sigma of CompressAI's scale table, but 64 instead of 256 at the top
SIGMA_MAX = 64.0
LIMIT_MIN, LIMIT_MAX = 8, 255  # bounds of a table's support -L..L
LIMIT_SIGMAS = 8.0  # L in units of sigma, before the bounds
Z_MAX = 31  # hyper symbols lie in -Z_MAX..Z_MAX
MAX_NPZ_BYTES = 1 << 20

_TOTAL = 1 << CDF_BITS
_NPY_HEADER = re.compile(  # .npy version 1.0 as numpy writes it
    rb"\x93NUMPY\x01\x00..\{'descr': '<i4', 'fortran_order': False, "
    rb"'shape': \((\d{1,9}),(?: (\d{1,9}))?\), \} *\n",
    re.DOTALL,
)


def _frozen(array: NDArray[np.int32]) -> NDArray[np.int32]:
    copy = np.array(array, dtype=np.int32)
    copy.setflags(write=False)
    return copy


def _read_npy(data: bytes) -> NDArray[np.int32]:
    """Read a .npy of int32 in C order. `np.load` would allocate whatever shape the header claims."""
    match = _NPY_HEADER.match(data)
    if match is None:
        raise InvalidTables("tables file holds an array that is not int32 in C order; export the pack again")
    shape = tuple(int(side) for side in match.groups() if side)
    body = data[match.end() :]
    if 4 * math.prod(shape) != len(body):
        raise InvalidTables(f"tables file claims shape {shape} for {len(body)} bytes; export the pack again")
    return np.frombuffer(body, dtype="<i4").astype(np.int32).reshape(shape)


@dataclass(frozen=True, eq=False)
class SymbolTables:
    """Tables of the latent y: one row per sigma level.

    limit: (levels,) int32, support of level i is -limit[i]..limit[i].
    counts: (levels, 2*max(limit)+1) int32, centred (the middle column is symbol 0), 0 outside the support.
    Raises InvalidTables when a row is not a distribution over its support.
    """

    limit: NDArray[np.int32]
    counts: NDArray[np.int32]
    models: tuple[TableModel, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.limit.dtype != np.int32 or self.counts.dtype != np.int32 or self.limit.ndim != 1:
            raise InvalidTables(
                f"y tables: limit {self.limit.dtype} {self.limit.shape}, counts {self.counts.dtype}; "
                "need int32 limit (levels,) and int32 counts; export the pack again"
            )
        levels = self.limit.size
        if not 1 <= levels <= 256 or self.limit.min() < 1 or self.limit.max() > LIMIT_MAX:
            raise InvalidTables(f"y tables: {levels} levels (at most 256), limits must be 1..{LIMIT_MAX}")
        width = 2 * int(self.limit.max()) + 1
        if self.counts.shape != (levels, width):
            raise InvalidTables(f"y tables: counts have shape {self.counts.shape}; need {(levels, width)}")
        object.__setattr__(self, "limit", _frozen(self.limit))
        object.__setattr__(self, "counts", _frozen(self.counts))
        object.__setattr__(self, "models", tuple(self._model(level) for level in range(levels)))

    def _model(self, level: int) -> TableModel:
        centre, limit = self.counts.shape[1] // 2, int(self.limit[level])
        support = self.counts[level, centre - limit : centre + limit + 1]
        model = table_model(support, f"y table {level}")
        if np.count_nonzero(self.counts[level]) != support.size:
            raise InvalidTables(f"y table {level}: counts outside its support -{limit}..{limit} must be 0")
        return model

    @cached_property
    def bits(self) -> NDArray[np.float32]:
        """What each symbol costs, of the shape of `counts`; infinite outside the support."""
        with np.errstate(divide="ignore"):
            return (CDF_BITS - np.log2(self.counts)).astype(np.float32)

    @property
    def levels(self) -> int:
        """Number of sigma levels."""
        return int(self.limit.size)

    @staticmethod
    def of_counts(counts: NDArray[np.int32]) -> "SymbolTables":
        """Tables from counts (levels, odd width) alone: a row's support ends with its last count above 0.

        Raises InvalidTables, as for any row that is not symmetric in its support.
        """
        if counts.ndim != 2 or counts.shape[1] % 2 == 0 or counts.shape[1] < 3:
            raise InvalidTables(f"y tables: counts {counts.shape}; need (levels, odd width); export it again")
        used = (counts != 0).any(axis=0)
        centre = counts.shape[1] // 2
        reach = np.abs(np.arange(counts.shape[1]) - centre)
        limit = np.where(counts != 0, reach, 0).max(axis=1).astype(np.int32)
        widest = int(reach[used].max()) if used.any() else 1
        kept = np.ascontiguousarray(counts[:, centre - widest : centre + widest + 1])
        return SymbolTables(limit=limit, counts=kept)

    def to_npz(self) -> bytes:
        """The `tables.npz` of a pack: arrays `y_limit` and `y_counts`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, y_limit=self.limit, y_counts=self.counts)
        return buffer.getvalue()

    @staticmethod
    def from_npz(data: bytes) -> "SymbolTables":
        """Read what `to_npz` wrote; never unpickles, never inflates more than a megabyte.

        Raises InvalidTables for anything else.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = sorted(archive.namelist())
                num_bytes = sum(item.file_size for item in archive.infolist())
                if names != ["y_counts.npy", "y_limit.npy"] or num_bytes > MAX_NPZ_BYTES:
                    raise InvalidTables(
                        f"tables file holds {names[:4]}, {num_bytes} bytes; need y_counts and y_limit, "
                        f"at most {MAX_NPZ_BYTES} bytes; export the pack again"
                    )
                counts, limit = (_read_npy(archive.read(name)) for name in names)
        except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise InvalidTables(f"tables file cannot be read ({error}); export the pack again") from error
        return SymbolTables(limit=limit, counts=counts)


@dataclass(frozen=True, eq=False)
class ZTables:
    """Tables of the hyper-latent z, one row per trained rate point and channel.

    counts: (K, Cz, 2*Z_MAX+1) int32; column c is symbol c - Z_MAX.
    Raises InvalidTables when a row is not a distribution.
    """

    counts: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.counts.dtype != np.int32 or self.counts.ndim != 3 or self.counts.shape[2] != 2 * Z_MAX + 1:
            raise InvalidTables(
                f"z tables: {self.counts.dtype} {self.counts.shape}; need int32 (K, Cz, {2 * Z_MAX + 1})"
            )
        if 0 in self.counts.shape:
            raise InvalidTables(f"z tables: shape {self.counts.shape} holds no table")
        for (point, channel), _ in np.ndenumerate(self.counts[..., 0]):
            check_counts(self.counts[point, channel], f"z table of rate point {point}, channel {channel}")
        object.__setattr__(self, "counts", _frozen(self.counts))

    def at_rate(self, rate_fixed: int) -> NDArray[np.int32]:
        """The (Cz, 2*Z_MAX+1) tables of a u8.8 rate: those of the nearest trained point, halves upwards.

        Raises RateOutOfRange.
        """
        last = len(self.counts) - 1
        if not 0 <= rate_fixed <= RATE_ONE * last:
            raise RateOutOfRange(f"rate {rate_fixed / RATE_ONE:g} is outside 0..{last}; choose one inside")
        point: NDArray[np.int32] = self.counts[(rate_fixed + RATE_ONE // 2) >> 8]
        return point


def sigma_levels() -> NDArray[np.float64]:
    """(SIGMA_LEVELS,) float64: the standard deviation, in quantizer steps, each sigma index stands for."""
    step = math.log(SIGMA_MAX / SIGMA_MIN) / (SIGMA_LEVELS - 1)
    return np.array([SIGMA_MIN * math.exp(step * level) for level in range(SIGMA_LEVELS)])


def _gaussian_row(sigma: float, limit: int) -> NDArray[np.int64]:
    """(2*limit+1,) counts of round(N(0, sigma)) clipped to -limit..limit; the ends hold the clipped tails."""
    edges = [math.erf((k + 0.5) / (sigma * math.sqrt(2.0))) / 2.0 for k in range(limit)] + [0.5]
    side = [max(1, round((edges[k] - edges[k - 1]) * _TOTAL)) for k in range(1, limit + 1)]
    return np.array([*side[::-1], _TOTAL - 2 * sum(side), *side], dtype=np.int64)


def build_gaussian_tables() -> SymbolTables:
    """The tables of the zero-mean Gaussians of `sigma_levels()`; runs at export only."""
    sigmas = [float(sigma) for sigma in sigma_levels()]
    limits = [min(LIMIT_MAX, max(LIMIT_MIN, math.ceil(LIMIT_SIGMAS * sigma))) for sigma in sigmas]
    centre = max(limits)
    counts = np.zeros((SIGMA_LEVELS, 2 * centre + 1), dtype=np.int32)
    for level, (sigma, limit) in enumerate(zip(sigmas, limits, strict=True)):
        counts[level, centre - limit : centre + limit + 1] = _gaussian_row(sigma, limit)
    return SymbolTables(limit=np.array(limits, dtype=np.int32), counts=counts)

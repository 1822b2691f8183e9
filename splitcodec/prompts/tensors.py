"""Reads and checks the tensors of a prompt: the schema's exact set, finite, and exact where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import safetensors
from numpy.typing import NDArray

from splitcodec.entropy import CDF_BITS, SymbolTables
from splitcodec.errors import InexactScaleBranch, InvalidPrompt, InvalidTables
from splitcodec.prompts.schema import EXACT_LIMIT, EXACT_PREFIX, Y_COUNTS, ExactConv, TensorSpec

Array = NDArray[Any]
DTYPES: Final = {"F32": "<f4", "I32": "<i4"}


def parse_tensors(data: bytes, name: str) -> dict[str, Array]:
    """Tensors of a safetensors file, read-only.

    Raises InvalidPrompt for anything else. `name` is for messages.
    """
    try:
        entries: list[tuple[str, Mapping[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise InvalidPrompt(f"{name} is not a safetensors file ({error}); export it again") from error
    return {key: _array(key, entry, name) for key, entry in entries}


def _array(key: str, entry: Mapping[str, Any], name: str) -> Array:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        raise InvalidPrompt(
            f"{name}: {key} is {entry['dtype']}; a prompt holds {sorted(DTYPES)} only: export it again"
        )
    return frozen(np.frombuffer(entry["data"], dtype=dtype).reshape(entry["shape"]))


def frozen(array: Array) -> Array:
    """A contiguous copy of `array` that cannot be written.

    Engines may keep it on a device under its identity.
    """
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def check_tensors(
    tensors: Mapping[str, Array], schema: Mapping[str, TensorSpec], exact: Mapping[str, ExactConv], name: str
) -> None:
    """Checks names, shapes, dtypes, finiteness, rate tables and the exactness bound of a prompt's tensors.

    Raises InvalidPrompt, or InexactScaleBranch where the scale branch could leave the exact integers of
    float32.
    """
    if set(tensors) != set(schema):
        missing, extra = sorted(set(schema) - set(tensors)), sorted(set(tensors) - set(schema))
        raise InvalidPrompt(f"{name} lacks tensors {missing} and has extra {extra}; export it for this codec")
    for key, spec in schema.items():
        array = tensors[key]
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            found = f"{array.dtype}{list(array.shape)}"
            raise InvalidPrompt(f"{name}: {key} is {found}, the codec takes {spec.dtype}{list(spec.shape)}")
        if spec.dtype == "float32" and not np.isfinite(array).all():
            raise InvalidPrompt(f"{name}: {key} holds NaN or infinity; train the prompt again")
    _check_rate_tables(tensors, name)
    check_exact_bound(tensors, exact, name)


def check_exact_bound(tensors: Mapping[str, Array], exact: Mapping[str, ExactConv], name: str) -> None:
    """Asserts that float32 sums stay exact in each output channel of the scale branch's prompt.

    For weights [out, in, kh, kw], bias [out], inputs within +-A and a shift of s bits:
    sum|w| * A + |b| + addend_limit + 2**(s-1) < 2**24. Raises InexactScaleBranch.
    """
    for key in sorted(k for k in tensors if k.startswith(EXACT_PREFIX)):
        if not np.array_equal(tensors[key], np.rint(tensors[key])):
            raise InexactScaleBranch(f"{name}: {key} holds fractions; the scale branch takes integers only")
    for conv, bound in exact.items():
        weight = tensors.get(f"{conv}.weight")
        if weight is None:
            continue
        total = np.abs(weight.astype(np.float64)).sum(axis=tuple(range(1, weight.ndim))) * bound.input_limit
        bias = tensors.get(f"{conv}.bias")
        if bias is not None:
            total = total + np.abs(bias.astype(np.float64))
        worst = float(total.max()) + bound.addend_limit + ((1 << bound.shift) >> 1)
        if worst >= EXACT_LIMIT:
            raise InexactScaleBranch(
                f"{name}: {conv} can reach {worst:.0f}, the limit is {EXACT_LIMIT}; clip its weights"
            )


def _check_rate_tables(tensors: Mapping[str, Array], name: str) -> None:
    for key in ("rate.gain_y", "rate.gain_z"):
        if not (tensors[key] > 0).all():
            raise InvalidPrompt(f"{name}: {key} holds a gain that is not positive; train the prompt again")
    counts = tensors["rate.z_counts"].astype(np.int64)
    if (counts < 1).any() or (counts.sum(axis=-1) != 1 << CDF_BITS).any():
        raise InvalidPrompt(
            f"{name}: rate.z_counts rows must be >= 1 and sum to 2**{CDF_BITS}; export it again"
        )
    if Y_COUNTS in tensors:
        try:
            SymbolTables.of_counts(tensors[Y_COUNTS])
        except InvalidTables as error:
            raise InvalidPrompt(f"{name}: {Y_COUNTS}: {error}") from error
    if np.abs(tensors["rate.scale_shift"].astype(np.int64)).max() > 256 * 1024:
        raise InvalidPrompt(f"{name}: rate.scale_shift exceeds 1024 sigma levels; train the prompt again")

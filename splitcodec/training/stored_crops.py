"""Crops made once and kept in a file, so that training does not resize photos: .npy, uint8 (N, S, S, 3) RGB.

The file is mapped into memory on reading, never unpickled; its header is checked before anything is mapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from splitcodec.durable import move_durably
from splitcodec.errors import DatasetError

SUFFIX = ".npy"
VERSION = (1, 0)  # of the .npy format
# What numpy's parser of such a header, a Python literal, is known to raise.
BAD_HEADER = (ValueError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError)
REMEDY = "make it again with `splitcodec train crops`"


def write_crops(path: Path, crops: Iterable[np.ndarray], count: int, size: int) -> None:
    """Store `count` crops (size, size, 3) uint8 RGB; the file appears whole or not at all.

    DatasetError: not a .npy, a crop of another shape or type, too few or too many, or not to be written.
    """
    if path.suffix != SUFFIX:
        raise DatasetError(f"crops are stored in a {SUFFIX} file, not in {path.name}; name one with --out")
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as file:
            _write(file, crops, count, size)
        move_durably(draft, path)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written: {error}; it needs {count * size * size * 3} bytes"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _write(file: BinaryIO, crops: Iterable[np.ndarray], count: int, size: int) -> None:
    """Header and rows; nothing is mapped, since a full disk would then kill the process."""
    shape = (size, size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    npy.write_array_header_1_0(file, header)
    written = 0
    for crop in crops:
        if crop.shape != shape or crop.dtype != np.uint8:
            raise DatasetError(f"crop {written} is {crop.dtype} {crop.shape}; this file takes uint8 {shape}")
        file.write(np.ascontiguousarray(crop).data)
        written += 1
    if written != count:
        raise DatasetError(f"{written} crops were made where {count} were announced")


def map_crops(path: Path) -> np.ndarray:
    """A file of crops -> (N, S, S, 3) uint8 RGB, mapped into memory read-only; DatasetError if it is none."""
    try:
        with path.open("rb") as file:
            shape, is_fortran, dtype = _header(file)
            offset = file.tell()
        held = path.stat().st_size
    except (OSError, *BAD_HEADER) as error:
        raise DatasetError(f"{path} holds no stored crops: {error}; {REMEDY}") from error
    if dtype != np.uint8 or is_fortran:
        order = "Fortran" if is_fortran else "C"
        raise DatasetError(f"{path} holds {dtype} in {order} order; crops are uint8 in C order: {REMEDY}")
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or min(shape) < 1:
        raise DatasetError(
            f"{path} has the shape {shape}; crops are (N, S, S, 3) with N and S >= 1: {REMEDY}"
        )
    wanted = offset + shape[0] * shape[1] * shape[2] * 3
    if held != wanted:
        raise DatasetError(f"{path} has {held} bytes where its header promises {wanted}; {REMEDY}")
    return np.memmap(path, np.uint8, "r", offset, shape)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type as the header has them; ValueError if it is not one of VERSION."""
    if (version := npy.read_magic(file)) != VERSION:
        raise ValueError(f"its format version is {version}, not {VERSION}")
    return npy.read_array_header_1_0(file)


class StoredCrops:
    """Random rows of files of crops, each mirrored or not by chance; deterministic by seed, no thread.

    size: side S of the crops in pixels. DatasetError: a file that is none, or files of several sizes.
    """

    def __init__(self, paths: list[Path], seed: int) -> None:
        self._files = [map_crops(path) for path in paths]
        self.size = int(self._files[0].shape[1])
        for path, crops in zip(paths, self._files, strict=True):
            if crops.shape[1] != self.size:
                raise DatasetError(
                    f"{path} holds crops of {crops.shape[1]} pixels, {paths[0]} of {self.size}; "
                    "one run takes one size"
                )
        self._ends = np.cumsum([len(crops) for crops in self._files])
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Rows of all files; a file named twice counts twice."""
        return int(self._ends[-1])

    def batch(self, count: int) -> np.ndarray:
        """`count` crops (count, S, S, 3) uint8 RGB."""
        rows = self._random.integers(len(self), size=count)
        flips = self._random.random(count) < 0.5
        crops = [self._row(row) for row in rows]
        return np.stack([crop[:, ::-1] if flip else crop for crop, flip in zip(crops, flips, strict=True)])

    def _row(self, row: int) -> np.ndarray:
        file = int(np.searchsorted(self._ends, row, side="right"))
        return self._files[file][row - self._ends[file]]

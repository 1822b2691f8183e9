"""Unlabelled photos as training crops: random scale, place, flip, brightness, and four-photo mosaics.

A photo is scaled as a camera frame is on its way to the network (the recipe's share of its stored size) and
what it does not cover is filled with 114, exactly what the letterbox of the detector's input does.
"""

from __future__ import annotations

import io
import queue
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splitcodec.errors import DatasetError

FILL = 114
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MASKS = "masks/"
DECODE_BYTES = 400 << 20  # decoded, photos take about ten times as much


@dataclass(frozen=True)
class PhotoFile:
    """A file of a data set: how to read it, and its size in bytes."""

    read: Callable[[], bytes]
    num_bytes: int


class PhotosOnDemand(Sequence[np.ndarray]):
    """Photos decoded when they are asked for: COCO or OpenImages do not fit in memory."""

    def __init__(self, files: list[PhotoFile]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return read_picture(self._files[index].read())


def read_photos(sources: list[Path]) -> Sequence[np.ndarray]:
    """Tar files and folders -> photos (h, w, 3) uint8 RGB, in name order.

    Any folder will do, with photos at any depth: OpenImages' train/, COCO's train2017/. Above DECODE_BYTES of
    files, each photo is decoded anew whenever it is used.
    """
    files = [file for source in sources for name, file in files_of(source) if _is_photo(name)]
    if not files:
        raise DatasetError(
            f"no photos in {[str(s) for s in sources]}; expected {SUFFIXES} in a tar or a folder"
        )
    if sum(file.num_bytes for file in files) > DECODE_BYTES:
        return PhotosOnDemand(files)
    return [read_picture(file.read()) for file in files]


def _is_photo(name: str) -> bool:
    """Class masks are pictures too, but none to learn to code."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(MASKS)


def read_picture(data: bytes) -> np.ndarray:
    """A picture file -> (h, w, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def files_of(source: Path) -> Iterator[tuple[str, PhotoFile]]:
    """Every file of a tar or folder by its path inside, in name order; a tar is read into memory."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            yield path.relative_to(source).as_posix(), PhotoFile(path.read_bytes, path.stat().st_size)
        return
    with tarfile.open(source) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            handle = archive.extractfile(member) if member.isfile() else None
            if handle is not None:
                yield member.name.removeprefix("./"), _in_memory(handle.read())


def _in_memory(data: bytes) -> PhotoFile:
    return PhotoFile(lambda: data, len(data))


class PhotoCrops:
    """Endless batches of crops (N, 3, S, S) float32 RGB 0..255, prepared by one background thread."""

    def __init__(
        self,
        photos: Sequence[np.ndarray],
        size: int,
        batch: int,
        seed: int,
        scales: tuple[float, float] = (0.35, 1.25),
        mosaic_share: float = 0.35,
    ) -> None:
        self._photos = photos
        self._size = size
        self._batch = batch
        self._scales = scales
        self._mosaic_share = mosaic_share
        self._random = np.random.default_rng(seed)
        self._ready: queue.Queue[np.ndarray] = queue.Queue(maxsize=6)
        threading.Thread(target=self._fill, daemon=True, name="photo-crops").start()

    def next(self) -> Tensor:
        """The next batch, channels last in memory; waits for the background thread if it is behind."""
        return torch.from_numpy(self._ready.get()).permute(0, 3, 1, 2).to(torch.float32)

    def _fill(self) -> None:
        while True:
            self._ready.put(np.stack([self.crop() for _ in range(self._batch)]))

    def crop(self) -> np.ndarray:
        """One crop (S, S, 3) uint8."""
        size, random = self._size, self._random
        canvas = np.full((size, size, 3), FILL, np.uint8)
        if random.random() < self._mosaic_share:
            row, column = (int(size * random.uniform(0.3, 0.7)) for _ in range(2))
            for rows in (slice(0, row), slice(row, size)):
                for columns in (slice(0, column), slice(column, size)):
                    self._paint(canvas[rows, columns], shrink=0.7)
        else:
            self._paint(canvas, shrink=1.0)
        light = random.uniform(0.75, 1.25) if random.random() < 0.5 else 1.0
        return np.clip(canvas * light, 0, 255).astype(np.uint8) if light != 1.0 else canvas

    def _paint(self, canvas: np.ndarray, shrink: float) -> None:
        """Fill a part of the canvas with a window of a random photo."""
        random = self._random
        photo = self._photos[random.integers(len(self._photos))]
        scale = float(np.exp(random.uniform(*np.log(self._scales)))) * shrink
        height, width = canvas.shape[:2]
        top, bottom, y = window(photo.shape[0], height / scale, random)
        left, right, x = window(photo.shape[1], width / scale, random)
        part = Image.fromarray(photo[top:bottom, left:right])
        rows = max(1, min(height, round((bottom - top) * scale)))
        columns = max(1, min(width, round((right - left) * scale)))
        pixels = np.asarray(part.resize((columns, rows), Image.Resampling.BILINEAR))
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        row, column = int(y * (height - rows)), int(x * (width - columns))
        canvas[row : row + rows, column : column + columns] = pixels


def window(length: int, wanted: float, random: np.random.Generator) -> tuple[int, int, float]:
    """Start and end of a window along one side of a photo, and where to put it (0..1) if it is too short."""
    window = min(length, max(1, round(wanted)))
    start = int(random.integers(length - window + 1))
    return start, start + window, float(random.random())

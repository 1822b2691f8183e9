"""Unlabelled photos as training crops: random scale, place, flip, brightness, and four-photo mosaics.

A photo is scaled as a camera frame is on its way to the network (0.35 to 1.25 of its stored size) and what it
does not cover is filled with 114, exactly what the letterbox of the detector's input does.
"""

from __future__ import annotations

import io
import queue
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splitcodec.errors import DatasetError

FILL = 114
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SCALE_RANGE = (0.35, 1.25)
MOSAIC_SHARE = 0.35


def read_photos(sources: list[Path]) -> list[np.ndarray]:
    """Tar files and folders -> photos (h, w, 3) uint8 RGB, in name order."""
    photos = []
    for source in sources:
        for data in _files(source):
            with Image.open(io.BytesIO(data)) as picture:
                photos.append(np.asarray(picture.convert("RGB")))
    if not photos:
        raise DatasetError(
            f"no photos in {[str(s) for s in sources]}; expected {SUFFIXES} in a tar or a folder"
        )
    return photos


def _files(source: Path) -> Iterator[bytes]:
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.isfile() and member.name.lower().endswith(SUFFIXES):
                handle = archive.extractfile(member)
                if handle is not None:
                    yield handle.read()


class PhotoCrops:
    """Endless batches of crops (N, 3, S, S) float32 RGB 0..255, prepared by one background thread."""

    def __init__(self, photos: list[np.ndarray], size: int, batch: int, seed: int) -> None:
        self._photos = photos
        self._size = size
        self._batch = batch
        self._random = np.random.default_rng(seed)
        self._ready: queue.Queue[np.ndarray] = queue.Queue(maxsize=6)
        threading.Thread(target=self._fill, daemon=True, name="photo-crops").start()

    def next(self) -> Tensor:
        """The next batch; waits for the background thread if it is behind."""
        return torch.from_numpy(self._ready.get()).permute(0, 3, 1, 2).to(torch.float32).contiguous()

    def _fill(self) -> None:
        while True:
            self._ready.put(np.stack([self.crop() for _ in range(self._batch)]))

    def crop(self) -> np.ndarray:
        """One crop (S, S, 3) uint8."""
        size, random = self._size, self._random
        canvas = np.full((size, size, 3), FILL, np.uint8)
        if random.random() < MOSAIC_SHARE:
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
        scale = float(np.exp(random.uniform(*np.log(SCALE_RANGE)))) * shrink
        height, width = canvas.shape[:2]
        top, bottom, y = _window(photo.shape[0], height / scale, random)
        left, right, x = _window(photo.shape[1], width / scale, random)
        part = Image.fromarray(photo[top:bottom, left:right])
        rows = max(1, min(height, round((bottom - top) * scale)))
        columns = max(1, min(width, round((right - left) * scale)))
        pixels = np.asarray(part.resize((columns, rows), Image.Resampling.BILINEAR))
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        row, column = int(y * (height - rows)), int(x * (width - columns))
        canvas[row : row + rows, column : column + columns] = pixels


def _window(length: int, wanted: float, random: np.random.Generator) -> tuple[int, int, float]:
    """Start and end of a window along one side of a photo, and where to put it (0..1) if it is too short."""
    window = min(length, max(1, round(wanted)))
    start = int(random.integers(length - window + 1))
    return start, start + window, float(random.random())

"""Unlabelled photos as training crops: random scale, place, flip, brightness, and four-photo mosaics.

A photo is scaled as a camera frame is on its way to the network (the recipe's share of its stored size) and
what it does not cover is filled with 114, exactly what the letterbox of the detector's input does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from splitcodec.data_files import open_files
from splitcodec.errors import DatasetError

FILL = 114
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MASKS = "masks/"
DECODE_BYTES = 400 << 20  # decoded, photos take about ten times as much


@dataclass(frozen=True)
class PhotoFile:
    """A file of a data set: its path inside, how to read it, and its size in bytes."""

    name: str
    read: Callable[[], bytes]
    num_bytes: int

    def picture(self) -> np.ndarray:
        """A picture file's (h, w, 3) uint8 RGB; DatasetError if it is none."""
        return self._decoded(lambda picture: picture.convert("RGB"))

    def mask(self) -> np.ndarray:
        """A class mask's (h, w) uint8, one number per pixel; DatasetError if it is no picture."""
        return self._decoded(lambda picture: picture)

    def _decoded(self, as_wanted: Callable[[Image.Image], Image.Image]) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(self.read())) as picture:
                return np.asarray(as_wanted(picture))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{self.name} is no readable picture: {error}; remove it") from error


class PhotosOnDemand(Sequence[np.ndarray]):
    """Photos decoded when they are asked for: COCO or OpenImages do not fit in memory."""

    def __init__(self, files: list[PhotoFile]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        return self._files[index].picture()


def read_photos(sources: list[Path]) -> Sequence[np.ndarray]:
    """Tar files and folders -> photos (h, w, 3) uint8 RGB, in name order.

    Any folder will do, with photos at any depth: OpenImages' train/, COCO's train2017/. Above DECODE_BYTES of
    files, each photo is decoded anew whenever it is used. A source named twice counts twice and is read once.
    """
    found = {
        source: [file for name, file in files_of(source) if _is_photo(name)]
        for source in dict.fromkeys(sources)
    }
    if not any(found.values()):
        raise DatasetError(
            f"no photos in {[str(s) for s in sources]}; expected {SUFFIXES} in a tar or a folder"
        )
    if sum(file.num_bytes for files in found.values() for file in files) > DECODE_BYTES:
        return PhotosOnDemand([file for source in sources for file in found[source]])
    pictures = {source: [file.picture() for file in files] for source, files in found.items()}
    return [picture for source in sources for picture in pictures[source]]


def _is_photo(name: str) -> bool:
    """Class masks are pictures too, but none to learn to code."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(MASKS)


def files_of(source: Path) -> Iterator[tuple[str, PhotoFile]]:
    """Every file of a tar or folder by its path inside, in name order; a tar is read into memory.

    DatasetError: neither, or a damaged tar.
    """
    with open_files(source) as files:
        if source.is_dir():
            for name in files.names():
                yield name, PhotoFile(name, partial(files.read, name), (source / name).stat().st_size)
        else:
            for name in sorted(files.names()):
                yield name, _in_memory(name, files.read(name))


def _in_memory(name: str, data: bytes) -> PhotoFile:
    return PhotoFile(name, lambda: data, len(data))


class PhotoCropper:
    """Random crops of photos, deterministic by seed; no thread, and for one thread at a time.

    size: side S of a crop in pixels; scales: smallest and largest factor of a photo's stored size;
    mosaic_share: share 0..1 of crops made of four photos.
    """

    def __init__(
        self,
        photos: Sequence[np.ndarray],
        size: int,
        seed: int,
        scales: tuple[float, float] = (0.35, 1.25),
        mosaic_share: float = 0.35,
    ) -> None:
        self._photos = photos
        self._size = size
        self._scales = scales
        self._mosaic_share = mosaic_share
        self._random = np.random.default_rng(seed)

    def batch(self, count: int) -> np.ndarray:
        """`count` crops (count, S, S, 3) uint8 RGB."""
        return np.stack([self.crop() for _ in range(count)])

    def crop(self) -> np.ndarray:
        """One crop (S, S, 3) uint8 RGB."""
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

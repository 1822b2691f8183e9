"""Labelled photos as training crops: COCO boxes and class masks, cut and scaled along with the picture.

A folder or tar with `images/`, `instances.json` and perhaps `masks/` (one byte per pixel), or COCO's own
download (`train2017/`, `annotations/instances_train2017.json`), whose polygons then give the masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splitcodec.coco import CocoDocument, GroundTruth, Photo, Row
from splitcodec.errors import DatasetError
from splitcodec.training.coco_masks import mask_of
from splitcodec.training.photos import FILL, PhotoFile, files_of, window

LAYOUTS = (
    ("instances.json", "images"),
    ("annotations/instances_train2017.json", "train2017"),
    ("annotations/instances_val2017.json", "val2017"),
)
IGNORED = 255  # mask value of pixels without a label
MAX_BOXES = 100  # of a crop; the largest are kept
LEAST_SHARE = 0.25  # a box of which less is left in the crop goes
LEAST_SIDE = 2.0  # pixels


@dataclass(frozen=True)
class Truth:
    """Labels of a batch of crops of side S.

    boxes: (N, MAX_BOXES, 4) x1 y1 x2 y2 in pixels; classes: (N, MAX_BOXES) int64, -1 where there is no box;
    mask: (N, S, S) int64, IGNORED where nothing counts.
    """

    boxes: Tensor
    classes: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Truth:
        return Truth(self.boxes.to(device), self.classes.to(device), self.mask.to(device))


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo with its boxes (n, 4) x1 y1 x2 y2, their classes (n,), and its mask (h, w) if asked for."""

    picture: Callable[[], np.ndarray]
    boxes: np.ndarray
    classes: np.ndarray
    mask: Callable[[], np.ndarray] | None


def read_labelled(sources: Sequence[Path]) -> list[LabelledPhoto]:
    """Every photo of these data sets, in the order of the annotations; DatasetError if a set has none."""
    return [photo for source in sources for photo in _read_one(source)]


def _read_one(source: Path) -> list[LabelledPhoto]:
    files = {name: file for name, file in files_of(source)}
    layout = next((layout for layout in LAYOUTS if layout[0] in files), None)
    if layout is None:
        raise DatasetError(
            f"{source} holds none of {[name for name, _ in LAYOUTS]}; the paper's losses need labels: give "
            "COCO data, or use --losses practical"
        )
    listing, folder = layout
    where = f"{listing} of {source}"
    document = CocoDocument(files[listing].read(), where, flat_boxes=True)
    found: dict[int, list[tuple[GroundTruth, Row]]] = defaultdict(list)
    for truth, row in zip(document.truths, document.rows, strict=True):
        if not truth.is_crowd:
            found[truth.photo_id].append((truth, row))
    return [_photo(files, folder, photo, found[photo.photo_id], where) for photo in document.photos]


def _photo(
    files: dict[str, PhotoFile],
    folder: str,
    photo: Photo,
    found: list[tuple[GroundTruth, Row]],
    where: str,
) -> LabelledPhoto:
    name = photo.file_name
    picture = files.get(f"{folder}/{name}", files.get(name))
    if picture is None:
        raise DatasetError(
            f"{where}: there is no {folder}/{name} for image {photo.photo_id}; put it there or take it out"
        )
    corners = np.array([truth.box for truth, _ in found], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    classes = np.array([truth.category_id for truth, _ in found], np.int64)
    rows = [row for _, row in found]
    stored = files.get(f"masks/{PurePosixPath(name).stem}.png")
    mask: Callable[[], np.ndarray] | None = None
    if stored is not None:
        mask = stored.mask
    elif any("segmentation" in row for row in rows):
        mask = lambda: mask_of(rows, (photo.height, photo.width), where)  # noqa: E731
    return LabelledPhoto(picture.picture, corners, classes, mask)


class LabelledCropper:
    """Random crops with their labels, deterministic by seed; for one thread at a time.

    The augmentation is photos.PhotoCropper's but for light and mosaics.
    """

    def __init__(
        self,
        photos: list[LabelledPhoto],
        size: int,
        seed: int,
        scales: tuple[float, float] = (0.35, 1.25),
    ) -> None:
        self._photos, self._size, self._scales = photos, size, scales
        self._random = np.random.default_rng(seed)

    def batch(self, count: int) -> tuple[np.ndarray, Truth]:
        """`count` crops (count, S, S, 3) uint8 RGB and their labels."""
        crops = [self.crop() for _ in range(count)]
        truth = Truth(
            torch.from_numpy(np.stack([crop.boxes for crop in crops])),
            torch.from_numpy(np.stack([crop.classes for crop in crops])),
            torch.from_numpy(np.stack([crop.mask for crop in crops])).long(),
        )
        return np.stack([crop.image for crop in crops]), truth

    def crop(self) -> Crop:
        """One random crop."""
        random, size = self._random, self._size
        photo = self._photos[random.integers(len(self._photos))]
        picture = photo.picture()
        scale = float(np.exp(random.uniform(*np.log(self._scales))))
        top, bottom, y = window(picture.shape[0], size / scale, random)
        left, right, x = window(picture.shape[1], size / scale, random)
        rows = max(1, min(size, round((bottom - top) * scale)))
        columns = max(1, min(size, round((right - left) * scale)))
        place = Place(
            top, left, bottom, right, rows, columns, int(y * (size - rows)), int(x * (size - columns))
        )
        return place.cut(picture, photo, size, flip=bool(random.random() < 0.5))


@dataclass(frozen=True)
class Crop:
    """One crop: image (S, S, 3) uint8, boxes and classes padded to MAX_BOXES, mask (S, S) uint8."""

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Place:
    """A window of a photo, the size it is scaled to, and where it goes on the crop; all in whole pixels."""

    top: int
    left: int
    bottom: int
    right: int
    rows: int
    columns: int
    row: int
    column: int

    def cut(self, picture: np.ndarray, photo: LabelledPhoto, size: int, flip: bool) -> Crop:
        """The crop of side `size`, mirrored if `flip`."""
        image = np.full((size, size, 3), FILL, np.uint8)
        self._paint(image, picture, Image.Resampling.BILINEAR)
        mask = np.full((size, size), IGNORED, np.uint8)
        if photo.mask is not None:
            self._paint(mask, photo.mask(), Image.Resampling.NEAREST)
        boxes, classes = self._boxes(photo)
        if flip:
            image, mask = image[:, ::-1], mask[:, ::-1]
            boxes[:, [0, 2]] = size - boxes[:, [2, 0]]
        order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1))[:MAX_BOXES]
        padded = np.zeros((MAX_BOXES, 4), np.float32)
        ids = np.full(MAX_BOXES, -1, np.int64)
        padded[: len(order)], ids[: len(order)] = boxes[order], classes[order]
        return Crop(np.ascontiguousarray(image), padded, ids, np.ascontiguousarray(mask))

    def _paint(self, canvas: np.ndarray, source: np.ndarray, how: Image.Resampling) -> None:
        part = Image.fromarray(source[self.top : self.bottom, self.left : self.right])
        shown = np.asarray(part.resize((self.columns, self.rows), how))
        canvas[self.row : self.row + self.rows, self.column : self.column + self.columns] = shown

    def _boxes(self, photo: LabelledPhoto) -> tuple[np.ndarray, np.ndarray]:
        """Boxes on the crop, cut at the window's edge, and their classes; slivers are left out."""
        factor = np.array(
            [self.columns / (self.right - self.left), self.rows / (self.bottom - self.top)] * 2, np.float32
        )
        start = np.array([self.left, self.top] * 2, np.float32)
        first = np.array([self.column, self.row] * 2, np.float32)
        whole = (photo.boxes - start) * factor + first
        last = first + np.array([self.columns, self.rows] * 2, np.float32)
        boxes = np.clip(whole, first, last)
        sides = boxes[:, 2:] - boxes[:, :2]
        full = (whole[:, 2:] - whole[:, :2]).prod(axis=1)
        kept = (sides.min(axis=1) >= LEAST_SIDE) & (sides.prod(axis=1) >= LEAST_SHARE * full)
        return boxes[kept], photo.classes[kept]

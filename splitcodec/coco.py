"""COCO's instances.json, checked row by row: an error names the file, the image and the annotation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from splitcodec.errors import DatasetError

Row = Mapping[str, object]
REMEDY = "mend it or take it out"


@dataclass(frozen=True)
class Photo:
    """One picture of a data set: COCO id, file name, and its size in pixels as the annotations state it."""

    photo_id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class GroundTruth:
    """One annotated object: box is x, y, width, height in pixels of the photo; area in pixels."""

    photo_id: int
    category_id: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclass(frozen=True)
class Category:
    """One class: COCO's number for it (with gaps, 1 to 90) and its name."""

    category_id: int
    name: str


class CocoDocument:
    """photos, truths and categories of a file; rows: the truths as they stand in it, in the same order."""

    def __init__(self, data: bytes, where: str, flat_boxes: bool = False) -> None:
        """where: how messages call the file. flat_boxes: sides of 0 are taken, for COCO's own train2017.

        Ids are unique, photos have sides of at least a pixel, boxes are finite and have sides above 0, areas
        are finite and not negative, and each truth is on a photo of the file. DatasetError otherwise.
        """
        self._where, self._flat = where, flat_boxes
        try:
            document = json.loads(data)
            images, self.rows = document["images"], tuple[Row, ...](document["annotations"])
            self.photos = tuple(map(self._photo, images))
            categories = map(self._category, document.get("categories", []))
            self.categories = tuple(sorted(categories, key=lambda category: category.category_id))
            self._check_ids()
            self.truths = tuple(self._truths())
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DatasetError(f"{where} is not COCO detection data: {error!r}") from error

    def _photo(self, row: Row) -> Photo:
        try:
            photo = Photo(
                _whole(row["id"]), str(row["file_name"]), _whole(row["height"]), _whole(row["width"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(f"image {row.get('id')}", f"is malformed: {error!r}") from error
        if photo.height < 1 or photo.width < 1:
            size = f"is {photo.width}x{photo.height} pixels; a side has at least 1"
            raise self._wrong(f"image {photo.photo_id}", size)
        return photo

    def _category(self, row: Row) -> Category:
        try:
            return Category(_whole(row["id"]), str(row["name"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(f"category {row.get('id')}", f"is malformed: {error!r}") from error

    def _check_ids(self) -> None:
        """Refuse a second image or category of one id: which of the two is meant cannot be told."""
        for kind, ids in (
            ("image", [photo.photo_id for photo in self.photos]),
            ("category", [category.category_id for category in self.categories]),
        ):
            seen: set[int] = set()
            for found in ids:
                if found in seen:
                    raise self._wrong(f"{kind} {found}", "is listed twice; an id names one")
                seen.add(found)

    def _truths(self) -> Iterator[GroundTruth]:
        photo_ids = {photo.photo_id for photo in self.photos}
        for row in self.rows:
            which = f"annotation {row.get('id')} of image {row.get('image_id')}"
            try:
                truth = _truth(row, self._flat)
            except (KeyError, TypeError, ValueError) as error:
                said = str(error) if isinstance(error, BadNumber) else f"is malformed: {error!r}"
                raise self._wrong(which, said) from error
            if truth.photo_id not in photo_ids:
                raise self._wrong(which, "is on an image that is not listed under images")
            yield truth

    def check_categories(self) -> None:
        """DatasetError if a truth is of a category that the file does not list."""
        known = {category.category_id for category in self.categories}
        for truth, row in zip(self.truths, self.rows, strict=True):
            if truth.category_id not in known:
                raise self._wrong(
                    f"annotation {row.get('id')} of image {truth.photo_id}",
                    f"is of category {truth.category_id}, which is not listed under categories",
                )

    def _wrong(self, which: str, what: str) -> DatasetError:
        return DatasetError(f"{self._where}: {which} {what}: {REMEDY}")


class BadNumber(ValueError):
    """A number that JSON holds and a picture cannot have."""


def _truth(row: Row, flat_boxes: bool) -> GroundTruth:
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        raise BadNumber(f"has the bbox {box!r}; a box is [x, y, width, height]")
    x, y, width, height = map(_number, box)
    least = 0.0 if flat_boxes else math.nextafter(0.0, 1.0)
    if not all(map(math.isfinite, (x, y, width, height, width * height))) or min(width, height) < least:
        limit = "not below 0" if flat_boxes else "above 0"
        raise BadNumber(f"has the bbox {box!r}; its numbers are finite and its sides {limit}")
    area = _number(row.get("area", width * height))
    if not math.isfinite(area) or area < 0.0:
        raise BadNumber(f"has the area {row['area']!r}; an area is finite and not below 0")
    return GroundTruth(
        photo_id=_whole(row["image_id"]),
        category_id=_whole(row["category_id"]),
        box=(x, y, width, height),
        area=area,
        is_crowd=bool(row.get("iscrowd", 0)),
    )


def _number(value: object) -> float:
    """A number, or a text that writes one; past the largest float it is infinite."""
    try:
        return float(str(value)) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def _whole(value: object) -> int:
    """An id or a side: a whole number, also written as 7.0 or "7"; ValueError for 7.5, true or a list."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no whole number")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is no whole number")
    return int(value)

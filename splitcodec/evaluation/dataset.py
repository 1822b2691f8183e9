"""COCO data (boxes, perhaps masks) from a tar or a folder, read in place; nothing is unpacked."""

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from splitcodec.errors import DatasetError

# The tar's own names first, then those of the COCO download.
ANNOTATION_FILES = ("instances.json", "annotations/instances_val2017.json", "annotations/instances.json")
IMAGE_FOLDERS = ("images", "val2017", "images/val2017")
MASK_FOLDER = "masks"


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


class Files(Protocol):
    """Where the bytes of a data set come from."""

    def names(self) -> list[str]:
        """Every file, by its path inside."""
        ...

    def read(self, name: str) -> bytes:
        """The file's bytes; KeyError if there is none of that name."""
        ...


class TarFiles:
    """Members of an open tar, read on demand."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {item.name.removeprefix("./"): item for item in tar if item.isfile()}

    def names(self) -> list[str]:
        """Every member that is a file."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The member's bytes; KeyError if there is none of that name."""
        stream = self._tar.extractfile(self._members[name])
        if stream is None:
            raise KeyError(name)
        return stream.read()


class FolderFiles:
    """Files below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self) -> list[str]:
        """Every file below the folder, with / between parts."""
        return [path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()]

    def read(self, name: str) -> bytes:
        """The file's bytes; KeyError if there is none of that name inside the folder."""
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root) or not path.is_file():
            raise KeyError(name)
        return path.read_bytes()


class Dataset:
    """Photos with COCO boxes. Photos without a box are part of it: a false detection there counts."""

    def __init__(self, files: Files, name: str) -> None:
        """DatasetError if the annotations are missing or malformed."""
        self.name = name
        self._files = files
        try:
            document = json.loads(_first_of(files, ANNOTATION_FILES, name))
            self.photos = tuple(
                Photo(int(row["id"]), str(row["file_name"]), int(row["height"]), int(row["width"]))
                for row in document["images"]
            )
            self.truths = tuple(_truths(document["annotations"]))
            self.categories = tuple(
                sorted(
                    (Category(int(row["id"]), str(row["name"])) for row in document["categories"]),
                    key=lambda category: category.category_id,
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"the annotations of {name} are not COCO detection data: {error!r}") from error
        if not self.photos:
            raise DatasetError(f"{name} lists no images; nothing can be measured on it")
        self._check_references()

    def _check_references(self) -> None:
        photo_ids = {photo.photo_id for photo in self.photos}
        category_ids = {category.category_id for category in self.categories}
        for truth in self.truths:
            if truth.photo_id not in photo_ids or truth.category_id not in category_ids:
                raise DatasetError(
                    f"{self.name} has a box of category {truth.category_id} on image {truth.photo_id};"
                    " list both under images and categories"
                )

    def read(self, photo: Photo) -> bytes:
        """The photo's file, as it is; DatasetError if it is missing."""
        names = [f"{folder}/{photo.file_name}" for folder in IMAGE_FOLDERS]
        return _first_of(self._files, (*names, photo.file_name), self.name)

    def mask(self, photo: Photo) -> bytes | None:
        """The PNG of the photo's class mask, masks/<the photo's name>.png; None if it has none."""
        try:
            return self._files.read(f"{MASK_FOLDER}/{PurePosixPath(photo.file_name).stem}.png")
        except KeyError:
            return None


@contextmanager
def open_dataset(path: Path) -> Iterator[Dataset]:
    """A tar with images/ and instances.json, or a folder like it or like COCO's own; or DatasetError."""
    with open_files(path) as files:
        yield Dataset(files, path.name)


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """The files of a tar or a folder; DatasetError if it is neither."""
    if not path.exists():
        raise DatasetError(f"there is no {path}; give a tar or a folder with --data")
    if path.is_dir():
        yield FolderFiles(path)
        return
    with ExitStack() as stack:
        try:
            files = TarFiles(stack.enter_context(tarfile.open(path)))
        except (OSError, tarfile.TarError) as error:
            raise DatasetError(f"{path} is not a readable tar ({error}); give a tar or a folder") from error
        yield files


def _first_of(files: Files, names: tuple[str, ...], dataset: str) -> bytes:
    """Bytes of the first name that exists; DatasetError names all that were tried."""
    for name in names:
        try:
            return files.read(name)
        except KeyError:
            continue
    raise DatasetError(f"{dataset} holds none of: {', '.join(names)}")


def _truths(rows: list[dict[str, object]]) -> Iterator[GroundTruth]:
    """Typed annotations; ValueError where a box is not four numbers."""
    for row in rows:
        box = row["bbox"]
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f"annotation {row.get('id')} has bbox {box!r}, not [x, y, width, height]")
        x, y, width, height = (float(value) for value in box)
        yield GroundTruth(
            photo_id=int(str(row["image_id"])),
            category_id=int(str(row["category_id"])),
            box=(x, y, width, height),
            area=float(str(row.get("area", width * height))),
            is_crowd=bool(row.get("iscrowd", 0)),
        )

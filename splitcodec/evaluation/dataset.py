"""COCO data (boxes, perhaps masks) from a tar or a folder, read in place; nothing is unpacked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from splitcodec.coco import Category, CocoDocument, GroundTruth, Photo
from splitcodec.data_files import Files, open_files
from splitcodec.errors import DatasetError

__all__ = [
    "Category",
    "Dataset",
    "Files",
    "GroundTruth",
    "Photo",
    "open_dataset",
    "open_files",
]

# The tar's own names first, then those of the COCO download.
ANNOTATION_FILES = ("instances.json", "annotations/instances_val2017.json", "annotations/instances.json")
IMAGE_FOLDERS = ("images", "val2017", "images/val2017")
MASK_FOLDER = "masks"


class Dataset:
    """Photos with COCO boxes. Photos without a box are part of it: a false detection there counts."""

    def __init__(self, files: Files, name: str) -> None:
        """DatasetError: annotations are missing or wrong; it names the file, the image and the annotation."""
        self.name = name
        self._files = files
        listing, data = _first_of(files, ANNOTATION_FILES, name)
        document = CocoDocument(data, f"{listing} of {name}")
        if not document.photos:
            raise DatasetError(f"{listing} of {name} lists no images; nothing can be measured on it")
        document.check_categories()
        self.photos, self.truths, self.categories = document.photos, document.truths, document.categories

    def read(self, photo: Photo) -> bytes:
        """The photo's file, as it is; DatasetError if it is missing."""
        names = [f"{folder}/{photo.file_name}" for folder in IMAGE_FOLDERS]
        return _first_of(self._files, (*names, photo.file_name), self.name)[1]

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


def _first_of(files: Files, names: tuple[str, ...], dataset: str) -> tuple[str, bytes]:
    """The first name that exists, and its bytes; DatasetError names all that were tried."""
    for name in names:
        try:
            return name, files.read(name)
        except KeyError:
            continue
    raise DatasetError(f"{dataset} holds none of: {', '.join(names)}")

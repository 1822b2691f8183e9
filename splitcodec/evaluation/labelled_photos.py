"""Photos with a class each, from a tar or a folder: classes from a CSV, or from names like ImageNet's.

classes.csv  file,class: one line per photo; class is a label or its number from 0. In the data set, or given
labels.json  in the data set: {"name in images/": number of the class}
names        [anything-]n01440764_tench.jpg: WordNet id and one of the label's synonyms; others are left out
neither      every photo, without a class
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from splitcodec.errors import DatasetError, FrameError
from splitcodec.evaluation.dataset import Files, Photo
from splitcodec.picture import inspect_picture

LABELS_FILE = "labels.json"
IMAGES = "images/"
CLASSES_FILE = "classes.csv"
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
IMAGENET_NAME = re.compile(r"(?:^|[-_/])(n\d{8})_([^/]+)\.\w+$")
Synonyms = Mapping[str, tuple[int, ...]]


class LabelledPhotos:
    """photos: in order of their names; classes: the class of each, or None where the data set knows none."""

    def __init__(self, files: Files, name: str, labels: Sequence[str], classes: Path | None) -> None:
        """labels: of the task, synonyms separated by commas. DatasetError: no photos, or unknown classes."""
        self.name = name
        self._files = files
        pictures = sorted(path for path in files.names() if path.lower().endswith(PICTURE_ENDINGS))
        known = self._from_csv(classes, labels)
        if known is None:
            known = self._from_json(labels)
        if known is None:
            known = classes_by_name(pictures, synonyms(labels))
        if known is not None:
            pictures = [path for path in pictures if path in known]
        if not pictures:
            raise DatasetError(f"{name} holds no photos with a class; give --classes FILE.csv (file,class)")
        self.photos = tuple(self._photo(number, path) for number, path in enumerate(pictures))
        self.classes = None if known is None else tuple(known[path] for path in pictures)

    def read(self, photo: Photo) -> bytes:
        """The photo's file, as it is."""
        return self._files.read(photo.file_name)

    def _photo(self, number: int, path: str) -> Photo:
        try:
            header = inspect_picture(self._files.read(path))
        except FrameError as error:
            raise DatasetError(f"{self.name}: {path} is no readable picture: {error}") from error
        return Photo(number, path, header.height, header.width)

    def _from_csv(self, given: Path | None, labels: Sequence[str]) -> dict[str, int] | None:
        try:
            data = self._files.read(CLASSES_FILE) if given is None else given.read_bytes()
            lines = io.StringIO(data.decode("utf-8-sig"), newline="")
            rows = list(csv.DictReader(lines, restval=""))
            return {row["file"]: _class_of(row["class"], labels) for row in rows}
        except KeyError as error:
            if given is None and error.args == (CLASSES_FILE,):
                return None
            raise DatasetError(
                f"the classes of {self.name} lack the column {error}; write file,class"
            ) from error
        except (OSError, ValueError) as error:
            raise DatasetError(f"the classes of {self.name} cannot be used: {error}") from error

    def _from_json(self, labels: Sequence[str]) -> dict[str, int] | None:
        """LABELS_FILE, if there is one: name of each file in images/ -> number of its class."""
        try:
            table = json.loads(self._files.read(LABELS_FILE))
            rows = {f"{IMAGES}{name}": _class_of(str(class_id), labels) for name, class_id in table.items()}
        except KeyError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            raise DatasetError(f"{LABELS_FILE} of {self.name} cannot be used: {error}") from error
        return rows


def synonyms(labels: Sequence[str]) -> Synonyms:
    """From each plain spelling to the classes it may mean, in order: those it comes first in, or else all."""
    first, every = _spellings([label.partition(",")[0] for label in labels]), _spellings(labels)
    return {**every, **first}


def classes_by_name(paths: Sequence[str], known: Synonyms) -> dict[str, int] | None:
    """Class of each path with a name like ImageNet's; None if no path has one.

    A name that several classes share (`crane`) is told by its neighbours, as ImageNet's classes are in the
    order of their WordNet ids. DatasetError: a name that no class has, or that may still be several.
    """
    named = sorted((match[1], match[2], path) for path in paths if (match := IMAGENET_NAME.search(path)))
    if not named:
        return None
    candidates = _candidates(named, known)
    ids = list(candidates)
    lowest, highest = -1, max(map(max, candidates.values())) + 1
    low, high = {}, {}
    for wordnet_id in ids:
        low[wordnet_id] = lowest = min((k for k in candidates[wordnet_id] if k > lowest), default=highest)
    for wordnet_id in reversed(ids):
        high[wordnet_id] = highest = max((k for k in candidates[wordnet_id] if k < highest), default=-1)
    for wordnet_id, name, path in named:
        if low[wordnet_id] != high[wordnet_id]:
            raise DatasetError(f"{path}: which class is called {name!r} cannot be told; give --classes")
    return {path: low[wordnet_id] for wordnet_id, _, path in named}


def _candidates(named: Sequence[tuple[str, str, str]], known: Synonyms) -> dict[str, tuple[int, ...]]:
    """The classes each WordNet id may be, in the order of the ids; DatasetError if there are none."""
    found: dict[str, tuple[int, ...]] = {}
    for wordnet_id, name, path in named:
        classes = known.get(_plain(name), ())
        found[wordnet_id] = tuple(k for k in classes if k in found.get(wordnet_id, classes))
        if not found[wordnet_id]:
            raise DatasetError(f"{path}: no class is called {name!r}; give --classes FILE.csv (file,class)")
    return found


def _spellings(labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for class_id, label in enumerate(labels):
        for spelling in dict.fromkeys(map(_plain, label.split(","))):
            found[spelling] = (*found.get(spelling, ()), class_id)
    return found


def _plain(text: str) -> str:
    """Lower case, words separated by single spaces, nothing else."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _class_of(text: str, labels: Sequence[str]) -> int:
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    if text in labels:
        return labels.index(text)
    raise ValueError(f"class {text[:64]!r} is neither a label nor a number below {len(labels)}")

"""Pictures to post, as they lie in a tar or a folder."""

import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from splitcodec.data_files import BAD_TAR, files_below
from splitcodec.errors import DatasetError
from splitcodec.picture import PICTURE_FILES

SKIPPED_FOLDERS = frozenset({"masks"})  # label maps of the COCO tars: PNG files, but no photos


@dataclass(frozen=True)
class PostedPhoto:
    """One picture file and its content type."""

    name: str
    content_type: str
    data: bytes


def read_photos(path: Path, limit: int) -> list[PostedPhoto]:
    """At most limit pictures, sorted by name; DatasetError if there is none."""
    if limit < 1:
        raise DatasetError(f"{limit} photos were asked for; give 1 or more")
    try:
        photos = _from_folder(path, limit) if path.is_dir() else _from_tar(path, limit)
    except BAD_TAR as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); give a tar or a folder with pictures"
        ) from error
    if not photos:
        raise DatasetError(f"{path} holds no {', '.join(PICTURE_FILES)} files")
    return photos


def _is_photo(path: PurePosixPath) -> bool:
    return path.suffix.lower() in PICTURE_FILES and SKIPPED_FOLDERS.isdisjoint(path.parts[:-1])


def _posted(path: PurePosixPath, data: bytes) -> PostedPhoto:
    return PostedPhoto(path.name, PICTURE_FILES[path.suffix.lower()], data)


def _from_folder(root: Path, limit: int) -> list[PostedPhoto]:
    names = [name for text in files_below(root) if _is_photo(name := PurePosixPath(text))]
    return [_posted(name, (root / name).read_bytes()) for name in names[:limit]]


def _from_tar(path: Path, limit: int) -> list[PostedPhoto]:
    photos = []
    with tarfile.open(path) as tar:
        members = sorted(
            (item for item in tar if item.isfile() and _is_photo(PurePosixPath(item.name))),
            key=lambda item: item.name,
        )
        for member in members[:limit]:
            stream = tar.extractfile(member)
            if stream is not None:
                photos.append(_posted(PurePosixPath(member.name), stream.read()))
    return photos

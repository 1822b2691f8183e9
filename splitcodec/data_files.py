"""The files of a data set as they lie: below a folder, links followed, or in a tar.

A data set is named by the operator, so its folders and files may be links to anywhere. The names inside it
come from its makers: a name that climbs out (`..`, an absolute path) is refused by its text.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePath
from typing import Protocol

from splitcodec.errors import DatasetError

# What opening, listing or reading a tar is known to raise when it is damaged, cut off or unreadable.
BAD_TAR = (OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


class Files(Protocol):
    """Where the bytes of a data set come from."""

    def names(self) -> list[str]:
        """Every file, by its path inside."""
        ...

    def read(self, name: str) -> bytes:
        """The file's bytes; KeyError if there is none of that name."""
        ...


class TarFiles:
    """Members of a tar, listed at once and read on demand, until it is closed."""

    def __init__(self, path: Path) -> None:
        """DatasetError: no tar, or a damaged one."""
        self._path = path
        try:
            with ExitStack() as stack:
                self._tar = stack.enter_context(tarfile.open(path))
                self._members = {item.name.removeprefix("./"): item for item in self._tar if item.isfile()}
                stack.pop_all()  # close() closes it
        except BAD_TAR as error:
            raise self._damaged(error) from error

    def names(self) -> list[str]:
        """Every member that is a file."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """The member's bytes; KeyError if there is none of that name, DatasetError if they are damaged."""
        member = self._members[name]
        try:
            stream = self._tar.extractfile(member)
            if stream is None:
                raise KeyError(name)
            return stream.read()
        except BAD_TAR as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the tar."""
        self._tar.close()

    def _damaged(self, error: Exception) -> DatasetError:
        said = " ".join(str(error).split())  # tarfile writes a line for each kind of tar it tried
        return DatasetError(
            f"{self._path} is not a readable tar ({said}); give a tar or a folder, or fetch it again"
        )


class FolderFiles:
    """Files below one folder, links followed: the operator named it. No name leads out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Every file below the folder, with / between parts."""
        return files_below(self._root)

    def read(self, name: str) -> bytes:
        """The file's bytes; KeyError: there is none of that name inside. DatasetError: it is unreadable."""
        path = file_below(self._root, name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{path} cannot be read ({error}); see to its permissions and disk") from error


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """The files of a tar or a folder; DatasetError if it is neither."""
    if not path.exists():
        raise DatasetError(f"there is no {path}; give a tar or a folder with --data")
    if path.is_dir():
        yield FolderFiles(path)
        return
    with closing(TarFiles(path)) as files:
        yield files


def files_below(root: Path) -> list[str]:
    """Every file below a folder by its path inside, / between parts, in order; links are followed.

    A folder that is linked from inside itself is not entered again. A link to nothing is no file.
    """
    found: list[str] = []
    above: dict[str, frozenset[tuple[int, int]]] = {str(root): frozenset()}
    for place, folders, files in os.walk(root, followlinks=True):
        chain = above.pop(place) | {_identity(place)}
        folders[:] = [name for name in folders if _identity(os.path.join(place, name)) not in chain]
        above.update({os.path.join(place, name): chain for name in folders})
        paths = (os.path.join(place, name) for name in files)
        found += [Path(path).relative_to(root).as_posix() for path in paths if os.path.isfile(path)]
    return sorted(found, key=lambda name: name.split("/"))


def file_below(root: Path, name: str) -> Path:
    """The file of that name inside; KeyError if there is none, or if the name climbs out of the folder."""
    inside = PurePath(name)
    path = root / inside
    if inside.is_absolute() or inside.drive or ".." in inside.parts or not os.path.isfile(path):
        raise KeyError(name)
    return path


def _identity(folder: str) -> tuple[int, int]:
    """Tells a folder by what it is, however it is called; device and inode."""
    try:
        status = os.stat(folder)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)

"""Reads the files of a pack, a folder or one zip, without following links or trusting any size or name."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from splitcodec.errors import PackDamaged, PackNotFound, PackTooLarge, UnsafePack

MIB: Final = 1 << 20
SIGNATURE_FILE: Final = "signature.json"
"""The one file that a pack may hold beside those its manifest names (splitcodec/signing/)."""
MAX_FILES: Final = 256
MAX_DIRECTORY_BYTES: Final = MIB // 4
"""Of a zip's directory, which Python reads whole and turns into objects before anyone can count them."""
MAX_BYTES: Final = {".json": MIB, ".md": MIB, ".npz": MIB, ".safetensors": 64 * MIB, ".onnx": 512 * MIB}
"""Largest file of each kind; any other kind of file is refused."""
_END: Final = struct.Struct("<4s4H2LH")  # a zip's end record, without the comment that a pack does not have
_LOCATOR_BYTES: Final = 20  # of zip64, right before the end record
SAFE_PATH: Final = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")


class PackFiles(Protocol):
    """The files of one pack, by path relative to its root."""

    label: str

    def paths(self) -> list[str]:
        """Every file, sorted; raises UnsafePack for links, odd names and too many files."""

    def read(self, path: str) -> bytes:
        """A file's bytes; raises PackDamaged, PackTooLarge or UnsafePack."""


def open_files(place: Path) -> PackFiles:
    """The pack at `place`, a folder or a zip file; raises PackNotFound."""
    if place.is_dir():
        return PackFolder(place)
    if place.is_file():
        return ZipFiles(place)
    raise PackNotFound(f"there is no pack at {place}; give a pack folder, a pack zip, or 'default'")


def read_verified(files: PackFiles, path: str, sha256: str) -> bytes:
    """The bytes of a file after checking their SHA-256; raises PackDamaged if they differ."""
    data = files.read(path)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise PackDamaged(
            f"{files.label}: {path} has sha256 {found}, the manifest says {sha256}; fetch the pack again"
        )
    return data


def size_limit(path: str, label: str) -> int:
    """Largest number of bytes `path` may have; raises UnsafePack for a name or kind no pack holds."""
    limit = MAX_BYTES.get(os.path.splitext(path)[1])
    if not SAFE_PATH.match(path) or limit is None:
        raise UnsafePack(
            f"{label} holds {path!r}; a pack holds plain paths to {sorted(MAX_BYTES)} files: remove it"
        )
    return limit


class PackFolder:
    """A pack folder. Links are refused at every step below the folder itself."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.label = f"pack {root}"

    def paths(self) -> list[str]:
        found = []
        for path in self._walk(self._root, ""):
            size_limit(path, self.label)
            found.append(path)
            if len(found) > MAX_FILES:
                raise PackTooLarge(f"{self.label} holds more than {MAX_FILES} files; it is not a pack")
        return sorted(found)

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False) and prefix.count("/") < 4:
                    yield from self._walk(Path(entry.path), path + "/")
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    raise UnsafePack(
                        f"{self.label}: {path} is a link, a device or too deep; a pack holds plain files"
                    )

    def read(self, path: str) -> bytes:
        limit = size_limit(path, self.label)
        descriptor = self._open(path)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnsafePack(f"{self.label}: {path} is not a plain file; remove it")
            data = file.read(limit + 1) if status.st_size <= limit else b""
        if status.st_size > limit or len(data) > limit:
            raise PackTooLarge(f"{self.label}: {path} has {status.st_size} bytes; the limit is {limit}")
        return data

    def _open(self, path: str) -> int:
        """Opens component by component, so that no part can be a link, not even one swapped in meanwhile."""
        *folders, name = path.split("/")
        plain = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        parent = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                child = os.open(folder, plain | os.O_DIRECTORY, dir_fd=parent)
                os.close(parent)
                parent = child
            return os.open(name, plain, dir_fd=parent)
        except FileNotFoundError as error:
            raise PackDamaged(f"{self.label} lacks {path}; fetch the pack again") from error
        except OSError as error:
            raise UnsafePack(
                f"{self.label}: {path} cannot be opened as a plain file ({error.strerror})"
            ) from error
        finally:
            os.close(parent)


class ZipFiles:
    """A pack as one zip file; entries are read in memory and never unpacked to disk."""

    def __init__(self, place: Path) -> None:
        self.label = f"pack {place}"
        try:
            _check_directory_size(place, self.label)
            self._archive = zipfile.ZipFile(place)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise PackDamaged(f"{self.label} is not a readable zip ({error}); fetch it again") from error
        entries = self._archive.infolist()
        if len(entries) > 2 * MAX_FILES:
            raise PackTooLarge(f"{self.label} holds more than {2 * MAX_FILES} entries; it is not a pack")
        self._files = [item for item in entries if not item.filename.endswith("/")]
        self._entries = {item.filename: item for item in self._files}

    def paths(self) -> list[str]:
        files = self._files
        if len(files) != len(self._entries) or len(files) > MAX_FILES:
            raise UnsafePack(
                f"{self.label} names files twice or holds more than {MAX_FILES}; it is not a pack"
            )
        for item in files:
            size_limit(item.filename, self.label)
            if stat.S_ISLNK(item.external_attr >> 16) or item.flag_bits & 1:
                raise UnsafePack(
                    f"{self.label}: {item.filename} is a link or encrypted; a pack holds plain files"
                )
        return sorted(self._entries)

    def read(self, path: str) -> bytes:
        limit = size_limit(path, self.label)
        item = self._entries.get(path)
        if item is None:
            raise PackDamaged(f"{self.label} lacks {path}; fetch the pack again")
        if item.file_size > limit:
            raise PackTooLarge(f"{self.label}: {path} has {item.file_size} bytes; the limit is {limit}")
        try:
            with self._archive.open(item) as file:
                data = file.read(limit + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            NotImplementedError,
            RuntimeError,
            ValueError,
            EOFError,
        ) as error:
            raise PackDamaged(
                f"{self.label}: {path} cannot be unpacked ({error}); fetch the pack again"
            ) from error
        if len(data) > limit:
            raise PackTooLarge(f"{self.label}: {path} inflates past the limit of {limit} bytes")
        return data


def _check_directory_size(place: Path, label: str) -> None:
    """Reads the end record of a zip, which says how large its directory is.

    Raises PackTooLarge; PackDamaged where the record is not the last thing in the file or a zip64 record
    would take its place (no file of a pack is that large).
    """
    with place.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END.size - _LOCATOR_BYTES))
        tail = file.read()
    if len(tail) < _END.size or not tail[-_END.size :].startswith(b"PK\x05\x06") or tail[-2:] != b"\0\0":
        raise PackDamaged(f"{label} does not end as a zip does; fetch it again")
    if tail[: -_END.size].startswith(b"PK\x06\x07"):
        raise PackTooLarge(f"{label} is a zip64 file; no pack is that large")
    directory_bytes = _END.unpack(tail[-_END.size :])[5]
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise PackTooLarge(
            f"{label} has a directory of {directory_bytes} bytes; the limit is {MAX_DIRECTORY_BYTES}"
        )

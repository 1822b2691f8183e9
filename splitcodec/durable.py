"""Files that are whole or absent after a crash: written beside their place, synced, moved in one step."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Replaces `path` with `data`; after a crash it holds either the old bytes or the new. Raises OSError.

    mode: of the file, less the umask.
    """
    draft = path.with_name(path.name + ".draft")
    with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
    move_durably(draft, path)


def move_durably(draft: Path, path: Path) -> None:
    """Moves a written file of the same folder to `path`, with its bytes on the disk first. Raises OSError."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts what was created, renamed or removed in `folder` on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

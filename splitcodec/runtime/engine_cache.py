"""Where built TensorRT engines are kept: files only their owner can read or write.

An engine is executable code, so a file that anyone else owns or could have written is not used; it is built
again.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

CACHE_VARIABLE = "SPLITCODEC_CACHE_DIR"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def cache_folder() -> Path:
    """engines/ in $SPLITCODEC_CACHE_DIR, else splitcodec/engines/ in $XDG_CACHE_HOME or ~/.cache.

    Raises OSError for a user without a home folder.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own) / "engines"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    except RuntimeError as error:
        raise FileNotFoundError(f"{error} Set {CACHE_VARIABLE} to keep engines.") from error
    return Path(base) / "splitcodec" / "engines"


def read_engine(folder: Path, key: str) -> bytes | None:
    """The engine kept under `key`, or None if there is none that is safe to use."""
    try:
        if not _is_private(os.lstat(folder)):
            return None
        descriptor = os.open(folder / f"{key}.engine", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(status.st_mode) and _is_private(status) else None


def keep_engine(folder: Path, key: str, engine: bytes) -> None:
    """Keeps an engine under `key`, mode 0600 in a folder of mode 0700.

    Raises OSError if it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(engine)
        os.replace(temporary, folder / f"{key}.engine")
    except BaseException:
        os.unlink(temporary)
        raise


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS

"""Prompt packs that came while a service ran, and which prompt each task uses, kept over restarts.

    <digest>.zip     one prompt pack each, named by the digest of its prompt
    active.json      {"format": 1, "active": {"<codec digest>/<task>": "<prompt digest>"}}, 8 bytes each
    previous.json    the same, of the prompts that were in use before those: the way back
    *.draft          what was arriving when the service ended; removed at the next start

The shelf keeps bytes and names and trusts neither: whoever takes a pack from it loads it with every check.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from splitcodec.durable import move_durably, sync_folder, write_durably
from splitcodec.errors import StoreUnavailable
from splitcodec.prompts.schema import Strict

log = logging.getLogger(__name__)

_ACTIVE: Final = "active.json"
_PREVIOUS: Final = "previous.json"
_DRAFT: Final = ".draft"
WireDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class _Active(Strict):
    format: int = Field(1, ge=1, le=1)
    active: dict[str, WireDigest] = Field(max_length=4096)


class PromptShelf:
    """For one service; the folder is inside one that the service has locked."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates the folder and removes what never arrived whole. Raises StoreUnavailable."""
        self._folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for draft in folder.glob(f"*{_DRAFT}"):
                draft.unlink()

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new empty file, mode 0600, to receive a prompt pack; gone after the block unless it was put."""
        with self._writing():
            descriptor, name = tempfile.mkstemp(suffix=_DRAFT, dir=self._folder)
            os.close(descriptor)
        try:
            yield Path(name)
        finally:
            with suppress(OSError):
                os.unlink(name)

    def put(self, draft: Path, digest: str) -> None:
        """Keeps a draft as the pack of a prompt (hex digest), on the disk when this returns.

        Raises StoreUnavailable.
        """
        with self._writing():
            move_durably(draft, self.place(digest))

    def remove(self, digest: str) -> None:
        """Forgets the pack of a prompt, if it is here. Raises StoreUnavailable."""
        with self._writing():
            self.place(digest).unlink(missing_ok=True)
            sync_folder(self._folder)

    def place(self, digest: str) -> Path:
        """Where the pack of a prompt lies, or would lie."""
        return self._folder / f"{digest}.zip"

    def places(self) -> list[Path]:
        """Every pack on the shelf, oldest first."""
        with self._writing():
            return sorted(self._folder.glob("*.zip"), key=lambda place: place.stat().st_mtime_ns)

    def active(self) -> dict[tuple[bytes, str], bytes]:
        """(codec digest, task) -> digest of the prompt in use, as last saved; digests of 8 bytes.

        A file that cannot be read counts as empty, with an error in the log.
        """
        return self._load(_ACTIVE)

    def previous(self) -> dict[tuple[bytes, str], bytes]:
        """As `active`, of the prompts that were in use before."""
        return self._load(_PREVIOUS)

    def save_active(self, active: Mapping[tuple[bytes, str], bytes]) -> None:
        """Keeps which prompt each task uses, on the disk when this returns. Raises StoreUnavailable."""
        self._save(_ACTIVE, active)

    def save_previous(self, previous: Mapping[tuple[bytes, str], bytes]) -> None:
        """Keeps which prompt each task used before. Raises StoreUnavailable."""
        self._save(_PREVIOUS, previous)

    def _load(self, name: str) -> dict[tuple[bytes, str], bytes]:
        path = self._folder / name
        if not path.exists():
            return {}
        try:
            saved = _Active.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, ValueError) as error:
            reason = str(error).splitlines()[0]
            log.error("%s is damaged (%s); every task starts with the prompt of its pack", path, reason)
            return {}
        pairs = ((name.partition("/"), digest) for name, digest in saved.active.items())
        return {(_bytes(codec), task): bytes.fromhex(digest) for (codec, _, task), digest in pairs}

    def _save(self, name: str, digests: Mapping[tuple[bytes, str], bytes]) -> None:
        rows = {f"{codec.hex()}/{task}": digest.hex() for (codec, task), digest in sorted(digests.items())}
        with self._writing():
            write_durably(self._folder / name, _Active(active=rows).model_dump_json().encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"{self._folder}: {error.strerror or error}; check that disk and its free space"
            ) from error


def _bytes(digest: str) -> bytes:
    """The bytes of a hex digest; empty, which names nothing, if it is not hex."""
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return b""

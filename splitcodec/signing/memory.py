"""What a service remembers against roll-back: per line of packs, what ran here and the oldest that still may.

One JSON file, replaced atomically. Only what really went into service is remembered, so a new version that
fails to start never locks out the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from splitcodec.durable import write_durably
from splitcodec.errors import RolledBack, SettingsError
from splitcodec.signing.envelope import Signer

MAX_REMEMBERED: Final = 64
"""Versions kept per line, the newest; the floor holds for all."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    oldest: int = Field(1, ge=1)
    seen: dict[int, str] = Field(default_factory=dict)  # version -> files_digest


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    newest_created: AwareDatetime | None = None
    lines: dict[str, _Line] = Field(default_factory=dict)


class VersionMemory:
    """Thread-safe; a file of its own per service."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the memory at `path`; raises SettingsError if it cannot be read.

        A damaged file is an error and not an empty memory: forgetting is what an attacker would want.
        """
        self._path = path
        self._lock = Lock()
        try:
            data = path.read_bytes() if path.exists() else b"{}"
            self._state = _State.model_validate_json(data)
        except (OSError, ValidationError) as error:
            raise SettingsError(
                f"{path}, which guards against old packs, cannot be read ({type(error).__name__}); restore "
                "it, or remove it if you accept any version that is signed"
            ) from error

    @property
    def newest_created(self) -> datetime | None:
        """The latest time that a remembered statement was made: no true clock is behind it."""
        return self._state.newest_created

    def check(self, signer: Signer) -> None:
        """Raises RolledBack if the line moved on, or if its version once had other contents."""
        with self._lock:
            _check(self._state, signer)

    def remember(self, signers: Sequence[Signer]) -> None:
        """Note that these versions are in service together.

        Raises RolledBack if one of them refuses another; SettingsError if the file cannot be written.
        """
        with self._lock:
            state = self._state.model_copy(deep=True)
            for signer in signers:
                _note(state, signer)
            for signer in signers:
                _check(state, signer)
            if state != self._state:
                self._write(state)
                self._state = state

    def _write(self, state: _State) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(self._path, state.model_dump_json().encode())
        except OSError as error:
            raise SettingsError(
                f"{self._path}, which guards against old packs, cannot be written ({error.strerror}); "
                "look at the disk and its permissions"
            ) from error


def _check(state: _State, signer: Signer) -> None:
    line = state.lines.get(_key(signer), _Line(oldest=1))
    if signer.version < line.oldest:
        raise RolledBack(
            f"{signer.kind} {signer.name} version {signer.version} is below {line.oldest}, the "
            "oldest that may still run here; sign it again with a higher version if you mean to go back"
        )
    if line.seen.get(signer.version, signer.files_digest) != signer.files_digest:
        raise RolledBack(
            f"{signer.kind} {signer.name} version {signer.version} ran here with other contents; sign "
            "changed contents with a higher version"
        )


def _note(state: _State, signer: Signer) -> None:
    line = state.lines.setdefault(_key(signer), _Line(oldest=1))
    line.oldest = max(line.oldest, signer.oldest)
    line.seen = _newest({signer.version: signer.files_digest, **line.seen}, line.oldest)
    state.newest_created = max(signer.created, state.newest_created or signer.created)


def _key(signer: Signer) -> str:
    return f"{signer.kind}/{signer.name}"


def _newest(seen: Mapping[int, str], oldest: int) -> dict[int, str]:
    kept = sorted(version for version in seen if version >= oldest)[-MAX_REMEMBERED:]
    return {version: seen[version] for version in kept}

"""What the edge must remember over a restart: its name, and which sequence numbers it may have used.

One JSON file, replaced atomically: {"format": 1, "device": NAME, "reserved": {CAMERA: SEQ}}. Numbers are
reserved in blocks, so the disk is touched once per block; after a restart a camera goes on behind its block.
It never starts below the clock in milliseconds either: should the file be lost, only a clock that also went
back can repeat a number. The name is in a file of its own too, written once, so that a damaged or lost file
does not rename the device. A lock keeps a second edge from using the same folder.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.settings import Name
from splitcodec.errors import SettingsError
from splitcodec.wire.names import NAME_CHARACTERS, NAME_PATTERN

log = logging.getLogger(__name__)

BLOCK: Final = 1024
"""Sequence numbers reserved at once, per camera."""
_FILE: Final = "state.json"
_NAME_FILE: Final = "device"
_LOCK: Final = "lock"


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = Field(1, ge=1, le=1)
    device: Name
    reserved: dict[Name, int] = Field(default_factory=dict)  # first number that was never handed out

    def is_sound(self) -> bool:
        return all(0 <= seq < 2**62 for seq in self.reserved.values())


class EdgeState:
    """Device name and sequence numbers; `next_seq` is for one thread at a time."""

    def __init__(
        self, folder: Path, device: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Opens or creates the state in `folder`; `device` overrides the kept name.

        clock: unix time in seconds. SettingsError: the folder cannot be used, or another edge uses it.
        """
        self._folder = folder
        self._clock = clock
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(folder / _LOCK)
            self._state = _load(folder / _FILE)
            if device is not None:
                self._state.device = device
            self._write()
            if _read_name(folder / _NAME_FILE) != self._state.device:
                _replace(folder / _NAME_FILE, self._state.device)
        except OSError as error:
            raise SettingsError(
                f"state_dir {folder} cannot be used ({error.strerror}); set SPLITCODEC_EDGE_STATE_DIR to a "
                "folder that this user may write"
            ) from error
        self._next: dict[str, int] = {}

    @property
    def device(self) -> str:
        """Name of this device, the same after a restart."""
        return self._state.device

    def next_seq(self, camera: str) -> int:
        """The next number of a camera: above every number it ever got, gaps allowed."""
        reserved = self._state.reserved.get(camera, 0)
        seq = self._next.get(camera)
        if seq is None:
            seq = max(reserved, int(self._clock() * 1000))
        if seq >= reserved:
            self._state.reserved[camera] = seq + BLOCK
            try:
                self._write()
            except OSError as error:  # no frame is worth losing over this: the clock still guards the numbers
                log.error("cannot save %s (%s); check the disk", self._folder / _FILE, error.strerror)
        self._next[camera] = seq + 1
        return seq

    def skip_to(self, camera: str, seq: int) -> None:
        """Give this camera no number below seq from here on; for numbers that are known to be in use."""
        self._state.reserved[camera] = max(seq, self._state.reserved.get(camera, 0))

    def close(self) -> None:
        """Let another edge use the folder."""
        os.close(self._lock)

    def _write(self) -> None:
        _replace(self._folder / _FILE, self._state.model_dump_json())


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read_name(path: Path) -> str | None:
    """The device name in that file; None if it is not there, or damaged."""
    try:
        name = path.read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return name if re.fullmatch(NAME_PATTERN, name) else None


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingsError(
            f"another edge uses state_dir {path.parent}; stop it, or set SPLITCODEC_EDGE_STATE_DIR"
        ) from None
    return descriptor


def _load(path: Path) -> _State:
    name = _read_name(path.with_name(_NAME_FILE))
    if not path.exists():
        return _State(device=name or _new_device_name())
    try:
        state = _State.model_validate(json.loads(path.read_bytes()))
        if state.is_sound():
            return state
        reason = "numbers out of range"
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    name = name or _new_device_name()
    log.error("%s is damaged (%s); moved to %s, this device is %s", path, reason, aside, name)
    return _State(device=name)


def _new_device_name() -> str:
    host = re.sub(f"[^{NAME_CHARACTERS}]", "-", socket.gethostname())[:64] or "edge"
    return f"{host}-{secrets.token_hex(4)}"

"""Who this edge is and which numbers its frames get, over restarts, crashes, damaged files and odd clocks.

A frame for which somebody waits goes to the cloud without touching the disk, so its number cannot wait for a
transaction. The spool's database keeps a ceiling that no number has reached (`edge.identity`) instead. It is
raised in the spool's own transactions, together with the frames that are written then, half a block before
the numbers below it are used up. A start begins every camera at the ceiling: gaps, never a repeat.

The second copy of the ceiling is written before the database, and a start takes the higher one of both. So
a database that is damaged, lost, or shorn of the end of its log repeats no number. A start never begins below
the clock in milliseconds, or at or below a frame on disk, either: both copies lost repeat a number only if
the clock went back too and no frame waits. A lock keeps a second edge from using the same folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge import identity
from edge.identity import Identity
from edge.old_state import forget_old_state, read_old_state
from edge.spool import Spool
from edge.spool_log import SpoolLog
from splitcodec.errors import SettingsError, SpoolUnavailable
from splitcodec.wire.names import NAME_CHARACTERS

log = logging.getLogger(__name__)

BLOCK: Final = 16_384
"""Numbers reserved at once, for all cameras."""
_LOCK: Final = "lock"


class EdgeState:
    """Device name and sequence numbers. `open` before any of them; `next_seq` is for one thread at a time."""

    def __init__(
        self, folder: Path, device: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Takes the folder, made if it is not there; `device` overrides the kept name.

        clock: unix time in seconds. SettingsError: the folder cannot be used, or another edge uses it.
        """
        self._folder = folder
        self._given = device
        self._clock = clock
        self._device = ""
        self._first = self._highest = self._ask_at = 0
        self._next: dict[str, int] = {}
        self._asking: asyncio.Task[bool] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(folder / _LOCK)
            self._copy = identity.read_copy(folder)
            self._old = read_old_state(folder)
        except OSError as error:
            raise _unusable(folder, error) from error

    async def open(self, spool: SpoolLog) -> None:
        """Take up name and numbers where spool and second copy left them, and reserve the first block.

        SettingsError: a new name cannot be kept. A disk that takes no number is reported, and no reason to
        stop.
        """
        self._loop, self._spool = asyncio.get_running_loop(), spool
        kept, highest = await self._kept()
        names = (self._given, kept.device, self._old.device, self._copy.device)
        self._device = next((name for name in names if name is not None), None) or _new_device_name()
        try:
            await asyncio.to_thread(identity.write_name, self._folder, self._device)
        except OSError as error:
            raise _unusable(self._folder, error) from error
        ceiling = max(kept.ceiling, self._old.ceiling, self._copy.ceiling)
        self._first = self._highest = max(ceiling, highest + 1, int(self._clock() * 1000))
        if await self._reserve():
            forget_old_state(self._folder)

    @property
    def device(self) -> str:
        """Name of this device, the same after a restart."""
        return self._device

    def next_seq(self, camera: str) -> int:
        """The next number of a camera: above every number it ever got, gaps allowed."""
        seq = self._next.get(camera, self._first)
        self._next[camera] = seq + 1
        self._highest = max(seq, self._highest)
        if seq >= self._ask_at:
            self._ask_at = seq + BLOCK // 8  # asked again then, should the disk fail
            self._loop.call_soon_threadsafe(self._ask)
        return seq

    async def settle(self) -> None:
        """Wait for a reservation that is under way. Before the spool stops."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    def close(self) -> None:
        """Let another edge use the folder."""
        os.close(self._lock)

    def _ask(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._reserve())

    async def _kept(self) -> tuple[Identity, int]:
        """What the spool's database knows: name and ceiling, and the highest number of a frame."""
        for _ in range(2):  # one that turns out to be damaged is replaced, and then asked
            try:
                return await self._spool.run(_known)
            except SpoolUnavailable as error:
                log.error("%s", error)
        return Identity(), -1

    async def _reserve(self) -> bool:
        """Raise the ceiling a block above every number so far; whether it is in both places."""
        ceiling, places = self._highest + BLOCK, 0
        try:
            await asyncio.to_thread(identity.write_ceiling, self._folder, ceiling)
            places += 1
        except OSError as error:  # no frame is worth losing over this: the database and the clock guard too
            log.error("cannot save the numbers in %s (%s); check the disk", self._folder, error.strerror)
        try:
            await self._spool.run(lambda spool: spool.identify(Identity(self._device, ceiling)))
            places += 1
        except SpoolUnavailable as error:
            log.error("cannot save the numbers: %s", error)
        if places > 0:
            self._ask_at = ceiling - BLOCK // 2
        return places == 2


def _known(spool: Spool) -> tuple[Identity, int]:
    found = identity.read(spool.connection)
    return found or Identity(), identity.highest_seq(spool.connection)


def _unusable(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"state_dir {folder} cannot be used ({error.strerror}); set SPLITCODEC_EDGE_STATE_DIR to a "
        "folder that this user may write"
    )


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


def _new_device_name() -> str:
    host = re.sub(f"[^{NAME_CHARACTERS}]", "-", socket.gethostname())[:64] or "edge"
    return f"{host}-{secrets.token_hex(4)}"

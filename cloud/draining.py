"""Published prompts that are on their way out: served until their time is up, for what still comes.

draining.json    {"format": 1, "until": {PROMPT DIGEST: UNIX SECONDS}}, kept over restarts
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from splitcodec.durable import write_durably
from splitcodec.errors import StoreUnavailable

log = logging.getLogger(__name__)

_FILE: Final = "draining.json"
LONGEST_WAIT_S: Final = 3600.0  # between two looks: the clock may be set
_Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = Field(1, ge=1, le=1)
    until: dict[_Digest, float]


class Draining:
    """For one thread, but for `in`."""

    def __init__(self, folder: Path, drain_s: float, clock: Callable[[], float] = time.time) -> None:
        """drain_s: how long a prompt is served on; clock: unix time in seconds."""
        self._path = folder / _FILE
        self._drain_s = drain_s
        self._clock = clock
        self._until = _load(self._path)

    def __contains__(self, digest: bytes) -> bool:
        return digest.hex() in self._until

    def begin(self, digest: bytes) -> float:
        """Unix seconds at which the prompt goes; asked again, the first answer holds. StoreUnavailable."""
        until = self._until.get(digest.hex(), self._clock() + self._drain_s)
        self._save({**self._until, digest.hex(): until})
        return until

    def end(self, digest: bytes) -> None:
        """It is gone, or in use again. StoreUnavailable."""
        if digest in self:
            self._save({name: until for name, until in self._until.items() if name != digest.hex()})

    def over(self) -> list[bytes]:
        """Those whose time is up."""
        now = self._clock()
        return [bytes.fromhex(name) for name, until in self._until.items() if until <= now]

    def wait_s(self) -> float | None:
        """Seconds until the next one goes."""
        return max(0.0, min(self._until.values()) - self._clock()) if self._until else None

    def _save(self, until: dict[str, float]) -> None:
        try:
            write_durably(self._path, _Kept(until=until).model_dump_json().encode())
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}; check that disk") from error
        self._until = until


class DrainTimer:
    """Lets work be done when the next prompt that drains has had its time. For one event loop."""

    def __init__(self, draining: Draining, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._draining = draining
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._working: set[asyncio.Task[None]] = set()

    def plan(self) -> None:
        """Look again at what drains; after each change."""
        self.stop()
        wait_s = self._draining.wait_s()
        if wait_s is not None:
            self._timer = self._loop.call_later(min(wait_s, LONGEST_WAIT_S), self._begin)

    def stop(self) -> None:
        """Nothing begins any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        task = self._loop.create_task(self._work())
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("retired prompts are still served: %s", error)


def _load(path: Path) -> dict[str, float]:
    try:
        return _Kept.model_validate_json(path.read_bytes()).until
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        log.error("%s is damaged (%s); what was to go stays until it is retired anew", path, reason)
        return {}

"""The first frames of a prompt that was just activated; if the graphs fail on some, it is given up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from splitcodec.errors import SplitcodecError

log = logging.getLogger(__name__)

FIRST_FRAMES: Final = 8
FAILURES: Final = 2  # among those; one alone may be the frame's own


class Probation:
    """Counts the first frames of activated prompts. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[bytes, tuple[int, int]] = {}  # frames to come, failures so far

    def begin(self, digest: bytes) -> None:
        """A prompt (8 bytes) was made active in place of another one."""
        with self._lock:
            self._left[digest] = (FIRST_FRAMES, 0)

    def frame(self, digest: bytes, failed: bool) -> bool:
        """One of its frames is done; True once, when it is to be given up."""
        with self._lock:
            if digest not in self._left:
                return False
            left, failures = self._left.pop(digest)
            left, failures = left - 1, failures + failed
            if failures < FAILURES and left > 0:
                self._left[digest] = (left, failures)
            return failures >= FAILURES


class FirstFrames:
    """Gives a prompt up, once its probation says so. For one event loop."""

    def __init__(
        self, probation: Probation, give_up: Callable[[bytes, SplitcodecError], Awaitable[None]]
    ) -> None:
        """give_up: lets the task of a prompt (8 bytes) go back, because of the error."""
        self._probation = probation
        self._give_up = give_up
        self._tasks: set[asyncio.Task[None]] = set()

    def seen(self, digest: bytes, error: SplitcodecError | None) -> None:
        """A frame was made, or answered, with a prompt; error: of the graphs, if they failed on it."""
        if self._probation.frame(digest, error is not None) and error is not None:
            task = asyncio.get_running_loop().create_task(self._back(digest, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _back(self, digest: bytes, error: SplitcodecError) -> None:
        try:
            await self._give_up(digest, error)
        except SplitcodecError as failure:
            log.error("prompt %s fails, and there is no way back: %s", digest.hex(), failure)

"""Which cameras are served: those that sent a picture that decodes, until a day of silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from edge.report import LastFrame
from splitcodec.errors import InvalidRequest

SILENCE_S: Final = 86_400.0


class ServedCameras:
    """Names with the time of the last picture. For any thread."""

    def __init__(
        self, limit: int, known: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """limit: cameras at once; known: those served from the start; clock: seconds, never set back."""
        self._limit = limit
        self._clock = clock
        self._seen_at = dict.fromkeys(known, clock())
        self._last: dict[str, LastFrame] = {}
        self._lock = threading.Lock()

    def __contains__(self, camera: str) -> bool:
        return camera in self._seen_at

    def names(self) -> list[str]:
        """All of them, sorted."""
        with self._lock:
            return sorted(self._seen_at)

    def check(self, camera: str) -> None:
        """InvalidRequest: it would be one too many."""
        with self._lock:
            self._check(camera)

    def admit(self, camera: str) -> None:
        """It sent a picture, or was told what to use. InvalidRequest: it would be one too many."""
        with self._lock:
            self._check(camera)
            self._seen_at[camera] = self._clock()

    def coded(self, camera: str, frame: LastFrame) -> None:
        """Its newest frame is coded."""
        with self._lock:
            if camera in self._seen_at:
                self._last[camera] = frame

    def last(self, camera: str) -> LastFrame | None:
        """Its newest coded frame since this edge started."""
        return self._last.get(camera)

    def drop_silent(self, but: Collection[str]) -> list[str]:
        """Those that were silent for SILENCE_S are served no more, except `but`; their names."""
        with self._lock:
            before = self._clock() - SILENCE_S
            silent = [
                name for name, seen_at in self._seen_at.items() if seen_at <= before and name not in but
            ]
            for name in silent:
                del self._seen_at[name]
                self._last.pop(name, None)
            return silent

    def _check(self, camera: str) -> None:
        if camera not in self._seen_at and len(self._seen_at) >= self._limit:
            raise InvalidRequest(
                f"camera {camera!r} would be one more than the {self._limit} served here; reuse a name, "
                "or raise SPLITCODEC_EDGE_MAX_CAMERAS"
            )

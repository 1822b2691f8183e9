"""Tells whoever listens that a frame has got its result, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from splitcodec.errors import QueueFull, ServiceStopping

MAX_LISTENERS: Final = 32
ALIVE_S: Final = 15.0
"""So often something is sent at least, or a proxy on the way would end the connection."""
PAUSE_S: Final = 0.1
"""Between two events; frames that come meanwhile are one event."""
_ALIVE: Final = ": alive\n\n"


class News:
    """For one event loop."""

    def __init__(self) -> None:
        self._listeners = 0
        self._newest: dict[str, str] = {}  # per camera the frame that was answered last
        self._changed = asyncio.Event()
        self._closed = False

    def tell(self, camera: str, frame_id: str) -> None:
        """A frame has a result."""
        self._newest.pop(camera, None)
        self._newest[camera] = frame_id
        self._wake()

    def forget(self, camera: str) -> None:
        """A camera is served no more."""
        self._newest.pop(camera, None)

    def close(self) -> None:
        """Every listener is let go; new ones are refused."""
        self._closed = True
        self._wake()

    def listen(self, camera: str | None) -> AsyncIterator[str]:
        """Events from now on, of one camera or of all. QueueFull: too many listen; ServiceStopping."""
        if self._closed:
            raise ServiceStopping("this edge is stopping; connect again once it is back")
        if self._listeners >= MAX_LISTENERS:
            raise QueueFull(f"{MAX_LISTENERS} listen for events, which is the limit; poll instead")
        return self._events(camera)

    async def _events(self, camera: str | None) -> AsyncIterator[str]:
        self._listeners += 1
        try:
            seen = self._newest_of(camera)
            yield _ALIVE
            while not self._closed:
                changed = self._changed
                newest = self._newest_of(camera)
                if newest is not None and newest != seen:
                    seen = newest
                    yield f"event: frame\ndata: {json.dumps({'camera': newest[0], 'id': newest[1]})}\n\n"
                    await asyncio.sleep(PAUSE_S)
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), ALIVE_S)
                except asyncio.TimeoutError:
                    yield _ALIVE
        finally:
            self._listeners -= 1

    def _newest_of(self, camera: str | None) -> tuple[str, str] | None:
        if camera is not None:
            return (camera, self._newest[camera]) if camera in self._newest else None
        return next(reversed(self._newest.items()), None)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

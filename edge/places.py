"""Places for frames in work: a picture gets one when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from splitcodec.errors import QueueFull, ServiceStopping


class Places:
    """Belongs to one event loop."""

    def __init__(self, limit: int, pending: Gauge) -> None:
        """limit: frames in work at once; pending: shows how many are."""
        self._limit = limit
        self._gauge = pending
        self._taken = 0
        self.stopping = False  # no frame gets a place any more

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place. QueueFull: none is free; ServiceStopping."""
        if self.stopping:
            raise ServiceStopping("this edge is stopping; send the frame again in a moment")
        if self._taken >= self._limit:
            raise QueueFull(
                f"{self._taken} frames are in work, the limit is {self._limit}; send slower or again later"
            )
        self._taken += 1
        self._gauge.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._gauge.set(self._taken)

"""Limits per device: frames per second, and streams open at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cloud.access import recheck
from cloud.messages import NAME
from splitcodec.errors import TooManyRequests
from splitcodec.throttle import Throttle

BURST_S = 2.0
"""A device that was quiet may send what it saved up over so many seconds at once."""


class DeviceLimits:
    """For one event loop."""

    def __init__(self, frames_per_s: float, streams_per_device: int, max_streams: int) -> None:
        """frames_per_s: of one device, on average; max_streams: of all devices together."""
        self._rate = frames_per_s
        self._throttle = Throttle(frames_per_s, max(1.0, BURST_S * frames_per_s))
        self._streams_per_device = streams_per_device
        self._max_streams = max_streams
        self._open = 0
        self._by_device: Counter[str] = Counter()

    def admit(self, device: str) -> None:
        """For a call that is answered at once. Raises TooManyRequests, or NotPermitted for the token."""
        check_device(device)
        self._take(device, f"device {device}")

    def admit_caller(self, peer: str) -> None:
        """For frames of no device: one share per token, or per address. Raises TooManyRequests."""
        found = recheck()
        name = f"address {peer.rpartition(':')[0]}" if found is None else f"token {found.token_id}"
        self._take(name, name)  # no device's name has a blank

    def _take(self, key: str, name: str) -> None:
        wait_s = self._throttle.take(key)
        if wait_s > 0:
            raise TooManyRequests(
                f"{name} sends more than {self._rate:g} frames per second; wait {wait_s:.2f} s"
            )

    async def pace(self, device: str) -> None:
        """For a stream: wait until the device's next frame may be taken; this slows its sender down."""
        wait_s = self._throttle.reserve(device if NAME.fullmatch(device) else "")
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    @contextmanager
    def stream(self) -> Iterator[StreamPlace]:
        """A place among the streams. Raises TooManyRequests if there is none."""
        if self._open >= self._max_streams:
            raise TooManyRequests(
                f"{self._open} streams are open, the limit is {self._max_streams}; connect again later"
            )
        self._open += 1
        place = StreamPlace(self._by_device, self._streams_per_device)
        try:
            yield place
        finally:
            self._open -= 1
            place.leave()


class StreamPlace:
    """The devices that one stream carries frames of."""

    def __init__(self, by_device: Counter[str], limit: int) -> None:
        self._by_device = by_device
        self._limit = limit
        self._own: set[str] = set()

    def admit(self, device: str) -> None:
        """Raises TooManyRequests if the device has its streams already, or NotPermitted for the token."""
        check_device(device)
        if device in self._own:
            return
        if self._by_device[device] >= self._limit:
            raise TooManyRequests(
                f"device {device} has {self._limit} streams open, the limit; connect again when one has ended"
            )
        self._own.add(device)
        self._by_device[device] += 1

    def leave(self) -> None:
        """The stream ended."""
        for device in self._own:
            self._by_device[device] -= 1
            if self._by_device[device] <= 0:
                del self._by_device[device]
        self._own.clear()


def check_device(device: str) -> None:
    """Raises NotPermitted if the caller's token is for another device, NotAuthenticated if it ended."""
    if (found := recheck()) is not None:
        found.require_device(device)

"""Who goes first among what belongs to one camera: one after the other, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

Lane: TypeAlias = tuple[str, str]
"""Device and camera."""


class Turn:
    """One place in a queue: over once its holder is done and every place before it is over."""

    def __init__(self, before: asyncio.Future[None] | None) -> None:
        self._before = before
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Until every place before this one is over."""
        if self._before is not None:
            await asyncio.shield(self._before)

    def end(self) -> None:
        """The holder is done, whether or not its turn came."""
        if self._before is None or self._before.done():
            self.over.set_result(None)
        else:
            self._before.add_done_callback(lambda _: self.over.set_result(None))


class Turns:
    """A queue for each lane; belongs to one event loop."""

    def __init__(self) -> None:
        self._last: dict[Lane, Turn] = {}

    @contextmanager
    def take(self, lane: Lane) -> Iterator[Turn]:
        """The next place in a lane's queue, given up when the block ends."""
        before = self._last.get(lane)
        turn = Turn(before.over if before else None)
        self._last[lane] = turn
        turn.over.add_done_callback(lambda _: self._forget(lane, turn))
        try:
            yield turn
        finally:
            turn.end()

    def _forget(self, lane: Lane, turn: Turn) -> None:
        if self._last.get(lane) is turn:
            del self._last[lane]

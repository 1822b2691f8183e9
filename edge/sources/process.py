"""A reader process seen from the edge: started, watched, killed when it says nothing for too long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import edge
from edge.sources.messages import HEADER, MAX_REASON_BYTES, Message, ReaderOrder, Said

BUFFER_BYTES: Final = 2**20


class SourceFailed(Exception):
    """A reader has to be started again; stalled: it lived, but nothing came. Never leaves this room."""

    def __init__(self, reason: str, *, stalled: bool = False) -> None:
        super().__init__(reason)
        self.stalled = stalled


@contextlib.asynccontextmanager
async def reader_process(order: ReaderOrder) -> AsyncIterator[ReaderProcess]:
    """A running reader; it is killed at the end of the block."""
    home = str(Path(edge.__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge.sources.reader",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libav's own lines hold addresses; reasons come as messages
        env={**os.environ, "PYTHONPATH": search},
        limit=BUFFER_BYTES,
    )
    try:
        reader = ReaderProcess(process, order)
        await reader.start()
        yield reader
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class ReaderProcess:
    """See reader_process."""

    def __init__(self, process: asyncio.subprocess.Process, order: ReaderOrder) -> None:
        self._process = process
        self._order = order

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def start(self) -> None:
        """Tell it what to read."""
        if self._process.stdin is None:
            raise SourceFailed("the reader has no standard input; report this")
        with contextlib.suppress(ConnectionError):  # it is gone; `next` says so
            self._process.stdin.write(self._order.model_dump_json().encode() + b"\n")
            await self._process.stdin.drain()

    async def next(self, timeout_s: float) -> Message:
        """Its next message. SourceFailed: it ended, said nonsense, or nothing within timeout_s."""
        try:
            return await asyncio.wait_for(self._read(), timeout_s)
        except asyncio.TimeoutError:
            raise SourceFailed(f"nothing came for {timeout_s:g} s", stalled=True) from None
        except asyncio.IncompleteReadError:
            raise SourceFailed("the reader process ended") from None

    async def _read(self) -> Message:
        stream = self._process.stdout
        if stream is None:
            raise SourceFailed("the reader has no standard output; report this")
        said, captured, length = HEADER.unpack(await stream.readexactly(HEADER.size))
        limit = self._order.max_bytes if said == Said.PICTURE else MAX_REASON_BYTES
        if said not in set(Said) or length > limit:
            raise SourceFailed(f"the reader sent a message of kind {said} with {length} bytes, limit {limit}")
        message = Message(Said(said), captured, await stream.readexactly(length))
        if message.said is Said.FAILED:
            raise SourceFailed(message.body.decode(errors="replace"))
        return message

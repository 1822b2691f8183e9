"""Request bodies: never more of one in memory or on the disk than its cap, whatever Content-Length claims."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request

from splitcodec.errors import (
    DeadlineExceeded,
    FrameTooLarge,
    InvalidRequest,
    PackTooLarge,
    SplitcodecError,
    StoreUnavailable,
)

DISCARD_FACTOR: Final = 4
"""An oversize body is read and dropped up to this many times the cap, so that its sender can read the 413."""


async def receive_picture(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """A picture file. FrameTooLarge: it is longer; DeadlineExceeded: it did not arrive within timeout_s."""
    too_large = FrameTooLarge(f"the picture has more than {max_bytes} bytes, the limit; scale it down")
    return await _in_memory(request, "picture", max_bytes, timeout_s, too_large)


async def receive_small(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """A JSON body. InvalidRequest: it is longer; DeadlineExceeded: it did not arrive within timeout_s."""
    too_large = InvalidRequest(f"the body has more than {max_bytes} bytes, the limit; send the fields alone")
    return await _in_memory(request, "body", max_bytes, timeout_s, too_large)


async def receive_file(request: Request, place: Path, max_bytes: int, timeout_s: float) -> None:
    """A prompt pack, into an existing file. PackTooLarge, DeadlineExceeded, StoreUnavailable."""
    too_large = PackTooLarge(
        f"the prompt pack has more than {max_bytes} bytes, the limit; raise SPLITCODEC_EDGE_MAX_PROMPT_BYTES "
        "if that is meant"
    )
    try:
        with place.open("wb") as file:

            async def write(chunk: bytes) -> None:
                await asyncio.to_thread(file.write, chunk)

            await _receive(request, "prompt pack", max_bytes, timeout_s, too_large, write)
    except OSError as error:
        raise StoreUnavailable(f"{place.parent}: {error.strerror}; look at the disk of this edge") from error


async def _in_memory(
    request: Request, what: str, max_bytes: int, timeout_s: float, too_large: SplitcodecError
) -> bytes:
    chunks: list[bytes] = []

    async def keep(chunk: bytes) -> None:
        chunks.append(chunk)

    await _receive(request, what, max_bytes, timeout_s, too_large, keep)
    return b"".join(chunks)


async def _receive(
    request: Request,
    what: str,
    max_bytes: int,
    timeout_s: float,
    too_large: SplitcodecError,
    take: Callable[[bytes], Awaitable[None]],
) -> None:
    async def receive() -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= max_bytes:
                await take(chunk)
            elif size > DISCARD_FACTOR * max_bytes:
                break
        if size > max_bytes:
            raise too_large

    try:
        await asyncio.wait_for(receive(), timeout_s)
    except asyncio.TimeoutError:
        raise DeadlineExceeded(
            f"the {what} did not arrive within {timeout_s} s; send it over a faster link"
        ) from None

"""Request bodies: never more of one in memory or on the disk than its cap, whatever Content-Length claims."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from edge.uploads import Upload, Uploads
from splitcodec.errors import (
    ClientGone,
    DeadlineExceeded,
    FrameTooLarge,
    InvalidRequest,
    PackTooLarge,
    SplitcodecError,
    StoreUnavailable,
)

log = logging.getLogger(__name__)

DISCARD_FACTOR: Final = 4
"""An oversize body is read and dropped up to this many times the cap, so that its sender can read the 413."""


@dataclass(frozen=True)
class _Wanted:
    """What may come: at most max_bytes (else too_large) within timeout_s seconds."""

    name: str
    max_bytes: int
    timeout_s: float
    too_large: SplitcodecError


async def receive_picture(uploads: Uploads, request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """A picture file. FrameTooLarge: it is longer; others: see _receive."""
    too_large = FrameTooLarge(f"the picture has more than {max_bytes} bytes, the limit; scale it down")
    return await _in_memory(uploads, request, _Wanted("picture", max_bytes, timeout_s, too_large))


async def receive_small(uploads: Uploads, request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """A JSON body. InvalidRequest: it is longer; others: see _receive."""
    too_large = InvalidRequest(f"the body has more than {max_bytes} bytes, the limit; send the fields alone")
    return await _in_memory(uploads, request, _Wanted("body", max_bytes, timeout_s, too_large))


async def receive_file(
    uploads: Uploads, request: Request, place: Path, max_bytes: int, timeout_s: float
) -> None:
    """A prompt pack, into an existing file. PackTooLarge, StoreUnavailable; others: see _receive."""
    too_large = PackTooLarge(
        f"the prompt pack has more than {max_bytes} bytes, the limit; raise SPLITCODEC_EDGE_MAX_PROMPT_BYTES "
        "if that is meant"
    )
    try:
        with uploads.begin() as upload, place.open("wb") as file:

            async def write(chunk: bytes) -> None:
                await asyncio.to_thread(file.write, chunk)

            await _receive(upload, request, _Wanted("prompt pack", max_bytes, timeout_s, too_large), write)
    except OSError as error:
        raise StoreUnavailable(f"{place.parent}: {error.strerror}; look at the disk of this edge") from error


def waits_for_consent(scope: Scope) -> bool:
    """Whether the client holds its body back until it is told to go on: `Expect: 100-continue`."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


async def _in_memory(uploads: Uploads, request: Request, wanted: _Wanted) -> bytes:
    chunks: list[bytes] = []
    with uploads.begin() as upload:

        async def keep(chunk: bytes) -> None:
            upload.charge(len(chunk))
            chunks.append(chunk)

        await _receive(upload, request, wanted, keep)
        return b"".join(chunks)


async def _receive(
    upload: Upload, request: Request, wanted: _Wanted, take: Callable[[bytes], Awaitable[None]]
) -> None:
    """DeadlineExceeded, ClientGone; QueueFull: all uploads together are too large; ServiceStopping."""
    size = 0

    async def receive() -> None:
        nonlocal size
        async for chunk in request.stream():
            size += len(chunk)
            if size <= wanted.max_bytes:
                await take(chunk)
            elif size >= DISCARD_FACTOR * wanted.max_bytes:
                break
        if size > wanted.max_bytes:
            raise wanted.too_large

    # The first read of the body is what sends "100 Continue".
    if waits_for_consent(request.scope) and _claimed_bytes(request) > wanted.max_bytes:
        raise wanted.too_large
    try:
        await upload.run(receive(), wanted.timeout_s)
    except asyncio.TimeoutError:
        raise DeadlineExceeded(
            f"the {wanted.name} did not arrive within {wanted.timeout_s} s; send it over a faster link"
        ) from None
    except ClientDisconnect:
        gone = ClientGone(f"the client went away after {size} bytes of the {wanted.name}; send it again")
        log.debug("%s", gone)
        raise gone from None


def _claimed_bytes(request: Request) -> int:
    """Content-Length; 0 where there is none, or it is no number."""
    claimed = request.headers.get("content-length", "")
    return int(claimed) if claimed.isascii() and claimed.isdigit() else 0

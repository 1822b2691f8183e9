"""One direction of an HTTP/2 connection, cut into its frames, so that a proxy can lose whole ones.

A flipped bit in the type or the stream of a DATA frame has the receiver pass over it without a word: the
message in it is gone, and what comes behind it arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

HEAD_BYTES: Final = 9
DATA: Final = 0
SETTINGS: Final = 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2Frames:
    """Passes on what comes, but for the DATA frames that are lost; whatever is not HTTP/2 stays as it is."""

    def __init__(self, *, from_client: bool) -> None:
        self._from_client = from_client
        self._left = len(PREFACE) if from_client else 0
        self._head = bytearray()
        self._losing = False
        self._opaque: bool | None = None

    def passed(self, chunk: bytes, lose: Callable[[], bool]) -> bytes:
        """What goes on of a chunk; lose: asked once for each DATA frame that holds something."""
        if self._opaque is None:
            self._opaque = not self._is_http2(chunk)
        if self._opaque:
            return chunk
        passed, at = bytearray(), 0
        while at < len(chunk):
            if self._left:
                part = chunk[at : at + self._left]
                passed += b"" if self._losing else part
                self._left -= len(part)
            else:
                part = chunk[at : at + HEAD_BYTES - len(self._head)]
                self._head += part
                passed += self._begun(lose)
            at += len(part)
        return bytes(passed)

    def _is_http2(self, first: bytes) -> bool:
        return first.startswith(PREFACE[:4]) if self._from_client else first[3:4] == bytes([SETTINGS])

    def _begun(self, lose: Callable[[], bool]) -> bytes:
        """The head once it is whole, unless its frame is lost."""
        if len(self._head) < HEAD_BYTES:
            return b""
        head = bytes(self._head)
        self._head.clear()
        self._left = int.from_bytes(head[:3], "big")
        self._losing = head[3] == DATA and self._left > 0 and lose()
        return b"" if self._losing else head

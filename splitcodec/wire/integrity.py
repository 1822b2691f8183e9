"""Checksums of what delivery depends on: names of frames and acknowledgements, as ingest.proto defines them.

TLS protects both anyway. Without it a flipped bit could rename a frame, or acknowledge one that was never
committed, and nothing else would notice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import google_crc32c

from splitcodec.wire.v1.ingest_pb2 import Frame, StreamResponse
from splitcodec.wire.v1.results_pb2 import FrameKey


def frame_crc(frame: Frame) -> int:
    """CRC32C of everything in a frame but the checksum itself."""
    names = (*_key(frame.key), str(frame.capture_time_unix_nanos).encode(), frame.task.encode())
    return _crc((*names, frame.bitstream))


def response_crc(response: StreamResponse) -> int:
    """CRC32C of the keys that a response answers, rejects and acknowledges."""
    parts: list[bytes] = []
    for result in response.results:
        parts += _key(result.key)
    for rejection in response.rejections:
        parts += (*_key(rejection.key), b"1" if rejection.settled else b"0")
    for ack in response.acks:
        parts += _key(ack)
    return _crc(parts)


def is_intact(message: Frame | StreamResponse) -> bool:
    """Whether the checksum is right; a message without one counts as intact."""
    if not message.HasField("crc32c"):
        return True
    made = frame_crc(message) if isinstance(message, Frame) else response_crc(message)
    return message.crc32c == made


def _key(key: FrameKey) -> tuple[bytes, bytes, bytes]:
    return key.device.encode(), key.camera.encode(), str(key.seq).encode()


def _crc(parts: Iterable[bytes]) -> int:
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(google_crc32c.extend(crc, struct.pack("<Q", len(part))), part)
    return crc

"""What a reader process says on its standard output: a header, then a picture, a reason or nothing."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from edge.sources.address import Kind

HEADER: Final = struct.Struct("<BQI")
"""Kind of message u8, capture time u64 in unix nanoseconds, length u32 of what follows."""
MAX_REASON_BYTES: Final = 1000


class Said(IntEnum):
    """ALIVE: nothing to send just now; PICTURE: a picture file; FAILED: why it ends, as text;
    UNCHANGED: a picture was left out, because it does not differ enough from the last one."""

    ALIVE = 0
    PICTURE = 1
    FAILED = 2
    UNCHANGED = 3


@dataclass(frozen=True)
class Message:
    """One message; capture_time_nanos is 0 except for a picture."""

    said: Said
    capture_time_nanos: int = 0
    body: bytes = b""

    def packed(self) -> bytes:
        """As bytes."""
        return HEADER.pack(self.said, self.capture_time_nanos, len(self.body)) + self.body


class ReaderOrder(BaseModel):
    """What a reader is to do: one line of JSON on its standard input, because others can read a command line.

    fps: pictures per second at most; timeout_s: for opening and for each read; min_change: see
    splitcodec.still_scene, 0 for every picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    place: str
    fps: float = Field(gt=0)
    timeout_s: float = Field(gt=0)
    min_change: float = Field(0.0, ge=0, le=255)
    max_bytes: int = Field(ge=1)
    max_pixels: int = Field(ge=1)

"""What the spool tells about the frames on its disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Lane: TypeAlias = tuple[str, str]
"""Device and camera: frames of one lane are sent in the order of their seq."""


@dataclass(frozen=True)
class Depth:
    """What waits: frames, bytes of their bitstreams, and the spool clock's time when the oldest came."""

    frames: int = 0
    num_bytes: int = 0
    oldest: float | None = None


FateState = Literal["spooled", "sent", "dropped", "quarantined"]


@dataclass(frozen=True)
class Fate:
    """What became of a frame so far, and why."""

    device: str
    state: FateState
    reason: str

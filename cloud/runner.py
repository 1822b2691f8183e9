"""What the service needs of the networks, as one narrow seam; `cloud.packs` does it with real packs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from splitcodec.bitstream import Header
from splitcodec.errors import SplitcodecError
from splitcodec.tasks import DetectionResult


@dataclass(frozen=True)
class ServedPrompt:
    """A prompt that frames may name; digests are 8 bytes, the input size is in pixels."""

    task: str
    pack: str
    codec_digest: bytes
    prompt_digest: bytes
    rate_points: int
    input_height: int
    input_width: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Admission:
    """A frame that can be decoded here, for `task`; frames with the same `group` may share a batch."""

    task: str
    group: Hashable


@dataclass(frozen=True)
class TaskOutput:
    """The answer for one frame; `stage_seconds` are this frame's share of each stage."""

    task: str
    header: Header
    detections: DetectionResult
    stage_seconds: Mapping[str, float]


class FrameRunner(Protocol):
    """Bitstreams to task outputs. Methods may be called from several threads at once."""

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt served now, sorted by task."""
        ...

    def admit(self, bitstream: bytes) -> Admission:
        """Cheap check before queueing.

        Raises BitstreamError, PackMismatch or UnknownPrompt.
        """
        ...

    def run(self, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
        """Decode and answer admitted frames of one group: an output or its own error for each, in order.

        Blocks; raises only for faults that are not one frame's.
        """
        ...

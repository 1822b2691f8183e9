"""What the service needs of the networks, as two narrow seams; `cloud.packs` does both with real packs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from splitcodec.bitstream import Header
from splitcodec.errors import SplitcodecError
from splitcodec.packs.prompt_pack import PromptPack
from splitcodec.packs.schema import CodecSection
from splitcodec.tasks import TaskAnswer


@dataclass(frozen=True)
class ServedPrompt:
    """A prompt that frames may name; digests are 8 bytes, the input size is its largest canvas's in pixels.

    active: edges should use it for its task; published: it came while the service ran, or an earlier one.
    """

    task: str
    pack: str
    codec_digest: bytes
    prompt_digest: bytes
    rate_points: int
    input_height: int
    input_width: int
    labels: tuple[str, ...]
    postprocess: str
    active: bool = True
    published: bool = False


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
    answer: TaskAnswer
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


@runtime_checkable
class PromptHost(Protocol):
    """A runner that takes prompts while it serves. One call at a time; frames go on meanwhile."""

    def codecs(self) -> Mapping[str, CodecSection]:
        """The codecs a prompt may be for, by hex digest."""
        ...

    def stage(self, pack: PromptPack) -> None:
        """Warm a verified prompt and serve it from then on; not active yet.

        Blocks. InvalidPrompt: it does not run here; SigmaIndexMismatch; PromptStateError: it is here with
        another section. Nothing has changed then.
        """
        ...

    def activate(self, codec_digest: bytes, prompt_digest: bytes) -> bytes:
        """Make a served prompt the active one of its task; the digest of the one before. PromptNotFound."""
        ...

    def retire(self, codec_digest: bytes, prompt_digest: bytes) -> None:
        """Serve a prompt no more; frames in work keep it. PromptNotFound, PromptStateError (it is active)."""
        ...

    def cut(self, prompt_digest: bytes) -> bytes:
        """The prompt pack of a prompt that came with a pack. PromptNotFound."""
        ...

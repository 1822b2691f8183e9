"""What the service needs of the networks, as two narrow seams; `cloud.packs` does both with real packs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from splitcodec.bitstream import Header
from splitcodec.codec import LatentState
from splitcodec.errors import PackMismatch, SplitcodecError, UnknownPrompt
from splitcodec.packs.prompt_pack import PromptPack
from splitcodec.packs.schema import CodecSection
from splitcodec.tasks import TaskAnswer

PromptKey: TypeAlias = tuple[bytes, bytes]
"""Codec and prompt digest, 8 bytes each, as in a bitstream header."""


@dataclass(frozen=True)
class ServedPrompt:
    """A prompt that frames may name; digests are 8 bytes, the input size is its largest canvas's in pixels.

    active: edges should use it for its task; published: it came while the service ran, or an earlier one;
    leases: frames in work that hold it.
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
    leases: int = 0


@dataclass(frozen=True)
class TaskOutput:
    """The answer for one frame; `stage_seconds` are this frame's share of each stage.

    state: what the camera's next frame may build on; None if nothing can.
    """

    task: str
    header: Header
    answer: TaskAnswer
    stage_seconds: Mapping[str, float]
    state: LatentState | None = None


@dataclass(frozen=True)
class Admission:
    """A frame that can be decoded here, for `task`.

    Admissions with the same `group` may share one call of `run`. It blocks, and gives an output or its own
    error for each, in order; it raises only for faults that are not one frame's. prompt_digest: the 8 bytes
    of its prompt; state: what it builds on.
    """

    bitstream: bytes
    task: str
    group: Hashable
    run: Callable[[Sequence[Admission]], list[TaskOutput | SplitcodecError]]
    prompt_digest: bytes = b""
    state: LatentState | None = None


class FrameRunner(Protocol):
    """Bitstreams to task outputs. Methods may be called from several threads at once."""

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt served now, sorted by task."""
        ...

    @property
    def holds(self) -> bool:
        """Whether frames that hold cells can be decoded here."""
        ...

    def admit(self, bitstream: bytes, state: LatentState | None = None) -> AbstractContextManager[Admission]:
        """Cheap check before queueing. The frame keeps its prompt until the block ends, retired or not.

        state: what it builds on if it holds cells. Raises BitstreamError, PackMismatch, UnknownPrompt, or
        StateMismatch for a frame that holds cells without its state.
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
        """Serve a prompt no more; admitted frames keep it. PromptNotFound, PromptStateError (active)."""
        ...

    def cut(self, prompt_digest: bytes) -> bytes:
        """The prompt pack of a prompt that came with a pack. PromptNotFound."""
        ...


def run_together(frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
    """Answer admitted frames of one group; see Admission."""
    return frames[0].run(frames)


def not_served(key: PromptKey, tasks: Mapping[PromptKey, str]) -> PackMismatch | UnknownPrompt:
    """The error for a bitstream of another codec or prompt than those of `tasks`."""
    codec_digest, prompt_digest = key
    codecs = sorted({codec.hex() for codec, _ in tasks})
    if codec_digest.hex() not in codecs:
        return PackMismatch(
            f"bitstream was made with codec {codec_digest.hex()}, this cloud holds {', '.join(codecs)}; "
            "deploy that pack here or re-encode with one of these"
        )
    prompts = sorted(f"{prompt.hex()} ({task})" for (_, prompt), task in tasks.items())
    return UnknownPrompt(
        f"bitstream was made with prompt {prompt_digest.hex()}, this cloud holds {', '.join(prompts)}; "
        "publish that prompt here or re-encode with one of these"
    )

"""What the edge encodes with: the parts of a loaded pack, and the prompts that live now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from splitcodec.codec import Again, EncodedFrame, LatentState
from splitcodec.frame import RGB
from splitcodec.packs import InputConvention
from splitcodec.packs.schema import CodecSection
from splitcodec.prompts import Prompt, PromptStore
from splitcodec.rate_control import RatePoints


class Encoder(Protocol):
    """The face of splitcodec.codec.FeatureEncoder that the edge uses."""

    def compress(
        self,
        canvas: RGB,
        prompt: Prompt,
        rate: float,
        source_size: tuple[int, int],
        *,
        chain: bool = False,
        again: Again | None = None,
    ) -> EncodedFrame:
        """canvas uint8 [H, W, 3]; source_size (height, width) in pixels; chain, again: see FeatureEncoder."""
        ...

    def compress_held(self, canvas: RGB, state: LatentState) -> EncodedFrame:
        """See FeatureEncoder."""
        ...


@dataclass(frozen=True)
class TaskInput:
    """What the edge needs to know of a prompt: how its canvas is made, its labels, bytes against rate."""

    convention: InputConvention
    labels: tuple[str, ...]
    points: RatePoints


@dataclass(frozen=True)
class Codec:
    """What the edge encodes with. codec_digest: hex SHA-256; max_rate: K - 1; engine: of the float graphs.

    inputs: by hex digest, for every live prompt; two prompts of a task may take different canvases. holds:
    whether frames may hold cells of the one before.
    """

    pack: str
    codec_digest: str
    engine: str
    max_rate: float
    section: CodecSection
    encoder: Encoder
    prompts: PromptStore
    inputs: dict[str, TaskInput]
    holds: bool = False

    @property
    def tasks(self) -> dict[str, TaskInput]:
        """By task, of the prompt that is active for it now."""
        return {row.task: self.inputs[row.digest] for row in self.prompts.list() if row.active}

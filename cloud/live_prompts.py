"""All that the frames of one prompt need: the decoder of its codec, and the tail of its task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from cloud.blame import answer_each
from cloud.runner import Admission, PromptKey, ServedPrompt, TaskOutput
from cloud.tails import TaskTail
from splitcodec.codec import DecodedFeature, FeatureDecoder
from splitcodec.errors import GraphFailed, InvalidManifest, InvalidPrompt, SplitcodecError
from splitcodec.packs import Pack, TaskSection
from splitcodec.packs.prompt_pack import PromptPack
from splitcodec.prompts import Prompt
from splitcodec.tasks import ResultLimits


@dataclass(frozen=True, eq=False)
class LivePrompt:
    """`source` is the pack that the prompt came with; None if it was published."""

    pack_name: str
    section: TaskSection
    prompt: Prompt
    decoder: FeatureDecoder
    tail: TaskTail
    source: Pack | None

    @property
    def task(self) -> str:
        """The prompt's task."""
        return self.prompt.task

    @property
    def key(self) -> PromptKey:
        """Names it in bitstream headers."""
        return self.decoder.pack.wire_digest, self.prompt.wire_digest

    def lease(self) -> AbstractContextManager[Prompt]:
        """Keep the prompt until the block ends. UnknownPrompt if it is retired."""
        return self.decoder.store.lease_digest(self.prompt.wire_digest)

    def run(self, frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
        """Decode frames that lease this prompt, run the tail once for all, and postprocess each.

        A bad frame's answer is its own error: UndecodableFrame if the graphs fail on that frame alone,
        GraphFailed if they fail on any.
        """
        return answer_each(self.answer, frames, lambda _: self.probe())

    def answer(self, frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
        """As `run`, but a graph that fails fails all that share it."""
        bitstreams, states = [frame.bitstream for frame in frames], [frame.state for frame in frames]
        decoded = self.decoder.decompress_batch(bitstreams, self.prompt, states)
        sound = [frame for frame in decoded if isinstance(frame, DecodedFeature)]
        outputs = iter(self.tail.answer(sound))
        return [
            _with_state(next(outputs), frame) if isinstance(frame, DecodedFeature) else frame
            for frame in decoded
        ]

    def probe(self) -> None:
        """Decode and answer one frame of zeros. Raises what is wrong with the engine, if it is ill."""
        self.decoder.warm(self.prompt)
        self.tail.probe(self.decoder.pack.manifest.codec.feature_channels)

    def served(self, active: bool, leases: int = 0) -> ServedPrompt:
        """What callers are told."""
        codec_digest, prompt_digest = self.key
        return ServedPrompt(
            task=self.task,
            pack=self.pack_name,
            codec_digest=codec_digest,
            prompt_digest=prompt_digest,
            rate_points=self.decoder.pack.manifest.codec.rate_points,
            input_height=self.section.input.height,
            input_width=self.section.input.width,
            labels=self.section.labels,
            postprocess=self.section.postprocess,
            active=active,
            published=self.source is None,
            leases=leases,
        )


def _with_state(output: TaskOutput | SplitcodecError, frame: DecodedFeature) -> TaskOutput | SplitcodecError:
    return replace(output, state=frame.state()) if isinstance(output, TaskOutput) else output


def pack_prompt(
    pack: Pack, task: str, decoder: FeatureDecoder, engine: str, threads: int, limits: ResultLimits
) -> LivePrompt:
    """A pack's own prompt, after an empty feature went through its tail and postprocess.

    GraphFailed, InvalidManifest, PackDamaged: the service does not start, rather than fail at a frame.
    """
    section = pack.task(task)
    tail = TaskTail(task, section, pack.tail_bytes(task), engine, threads, limits)
    tail.probe(pack.manifest.codec.feature_channels)
    return LivePrompt(pack.name, section, pack.prompt(task), decoder, tail, pack)


def published_prompt(
    pack: PromptPack, decoder: FeatureDecoder, engine: str, threads: int, limits: ResultLimits
) -> LivePrompt:
    """The prompt of a prompt pack, after an empty feature went through tail and postprocess.

    InvalidPrompt: the tail does not open or run, or its outputs are not what the postprocess reads.
    """
    manifest = pack.manifest
    try:
        tail = TaskTail(manifest.task, manifest.section, pack.tail, engine, threads, limits)
        tail.probe(decoder.pack.manifest.codec.feature_channels)
    except (GraphFailed, InvalidManifest) as error:
        digest = pack.prompt.digest[:16]
        raise InvalidPrompt(
            f"prompt {digest} of task {manifest.task} does not run here ({error}); the prompts in use stay"
        ) from error
    return LivePrompt(manifest.pack, manifest.section, pack.prompt, decoder, tail, None)

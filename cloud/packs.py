"""Runs frames on real packs: the decoder of the frame's codec, the tail of its task.

Several packs live at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.runner import Admission, ServedPrompt, TaskOutput
from splitcodec.bitstream import parse
from splitcodec.codec import DecodedFeature, FeatureDecoder
from splitcodec.errors import PackMismatch, SplitcodecError, UnknownPrompt
from splitcodec.packs import Pack, TaskSection
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.runtime import Session, open_session
from splitcodec.tasks import FrameSize, Postprocess, postprocess_for


@dataclass(frozen=True)
class DetectionLimits:
    """score_threshold: detections below it are dropped, 0..1.

    max_detections: the best ones kept per frame.
    """

    score_threshold: float
    max_detections: int


@dataclass(frozen=True)
class _TaskRoom:
    """All that the frames of one prompt need."""

    pack: Pack
    task: str
    section: TaskSection
    decoder: FeatureDecoder
    tail: Session
    postprocess: Postprocess


class PackRunner:
    """A FrameRunner over packs that may share a codec; the first pack wins where two hold the same prompt."""

    def __init__(self, packs: Sequence[Pack], engine: str, threads: int, limits: DetectionLimits) -> None:
        """Opens the cloud graphs of every pack. Raises RuntimeUnavailable, GraphFailed, InvalidManifest."""
        self._limits = limits
        self._rooms: dict[tuple[bytes, bytes], _TaskRoom] = {}
        for pack in packs:
            decoder = FeatureDecoder(pack, engine=engine, threads=threads)
            for task in pack.tasks:
                prompt = pack.prompt(task)
                section = pack.task(task)
                decoder.warm(prompt)
                tail = open_session(pack.tail_bytes(task), engine, threads, name=f"tail:{task}")
                room = _TaskRoom(pack, task, section, decoder, tail, postprocess_for(section.postprocess))
                self._rooms.setdefault((pack.wire_digest, prompt.wire_digest), room)

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt of every pack, sorted by task and digest."""
        served = [
            ServedPrompt(
                task=room.task,
                pack=room.pack.name,
                codec_digest=codec_digest,
                prompt_digest=prompt_digest,
                rate_points=room.pack.manifest.codec.rate_points,
                input_height=room.section.input.height,
                input_width=room.section.input.width,
                labels=room.section.labels,
            )
            for (codec_digest, prompt_digest), room in self._rooms.items()
        ]
        return tuple(sorted(served, key=lambda prompt: (prompt.task, prompt.prompt_digest)))

    def admit(self, bitstream: bytes) -> Admission:
        """The frame's task; frames of one prompt and one network size may share a batch.

        Raises BitstreamError, PackMismatch or UnknownPrompt.
        """
        header = parse(bitstream).header
        room = self._room(header.codec_digest, header.prompt_digest)
        group = (header.codec_digest, header.prompt_digest, header.network_height, header.network_width)
        return Admission(room.task, group)

    def run(self, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
        """Decode, run the tail once for all, and postprocess each; a bad frame's answer is its own error."""
        header = parse(bitstreams[0]).header
        room = self._room(header.codec_digest, header.prompt_digest)
        decoded = room.decoder.decompress_batch(bitstreams)
        sound = [frame for frame in decoded if isinstance(frame, DecodedFeature)]
        outputs = iter(self._run_tail(room, sound) if sound else [])
        return [next(outputs) if isinstance(frame, DecodedFeature) else frame for frame in decoded]

    def _run_tail(self, room: _TaskRoom, frames: Sequence[DecodedFeature]) -> list[TaskOutput]:
        started = time.perf_counter()
        heads = room.tail.run({TAIL_INPUT: np.concatenate([frame.feature for frame in frames])})
        share = (time.perf_counter() - started) / len(frames)
        outputs = []
        for row, frame in enumerate(frames):
            started = time.perf_counter()
            header = frame.header
            detections = room.postprocess(
                {name: head[row : row + 1] for name, head in heads.items()},
                FrameSize(
                    header.source_height, header.source_width, header.network_height, header.network_width
                ),
                room.section.labels,
                score_threshold=self._limits.score_threshold,
                max_detections=self._limits.max_detections,
            )
            own = {"tail": share, "postprocess": time.perf_counter() - started}
            outputs.append(TaskOutput(room.task, header, detections, {**frame.stage_seconds, **own}))
        return outputs

    def _room(self, codec_digest: bytes, prompt_digest: bytes) -> _TaskRoom:
        room = self._rooms.get((codec_digest, prompt_digest))
        if room is not None:
            return room
        codecs = sorted({codec.hex() for codec, _ in self._rooms})
        if codec_digest.hex() not in codecs:
            raise PackMismatch(
                f"bitstream was made with codec {codec_digest.hex()}, this cloud holds {', '.join(codecs)}; "
                "deploy that pack here or re-encode with one of these"
            )
        prompts = sorted(f"{prompt.hex()} ({room.task})" for (_, prompt), room in self._rooms.items())
        raise UnknownPrompt(
            f"bitstream was made with prompt {prompt_digest.hex()}, this cloud holds {', '.join(prompts)}; "
            "publish that prompt here or re-encode with one of these"
        )

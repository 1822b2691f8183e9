"""One task's tail: decoded features in, typed answers out; in this process or in one of a cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloud.runner import TaskOutput
from splitcodec.bitstream import Header
from splitcodec.errors import SplitcodecError
from splitcodec.packs import TaskSection
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.runtime import open_session
from splitcodec.tasks import FrameSize, ResultLimits, postprocess_for


class Decoded(Protocol):
    """What a tail needs of a decoded frame; feature: float32 [1, Ch, H/8, W/8]."""

    @property
    def feature(self) -> NDArray[np.float32]: ...
    @property
    def header(self) -> Header: ...
    @property
    def stage_seconds(self) -> Mapping[str, float]: ...


class TaskTail:
    """The tail graph of one task and its postprocessing. `answer` may be called from several threads."""

    def __init__(
        self, task: str, section: TaskSection, graph: bytes, engine: str, threads: int, limits: ResultLimits
    ) -> None:
        """Opens the graph. Raises RuntimeUnavailable, GraphFailed, or InvalidManifest."""
        self._task = task
        self._section = section
        self._session = open_session(graph, engine, threads, name=f"tail:{task}")
        self._postprocess = postprocess_for(section.postprocess)
        self._limits = limits

    def answer(self, frames: Sequence[Decoded]) -> list[TaskOutput | SplitcodecError]:
        """One output for each frame, in order, or the error that its postprocess or graph gave.

        The graph runs once for all features of one shape.
        """
        answers: dict[int, TaskOutput | SplitcodecError] = {}
        groups: dict[tuple[int, ...], list[int]] = {}
        for position, frame in enumerate(frames):
            groups.setdefault(frame.feature.shape, []).append(position)
        for members in groups.values():
            answers |= zip(members, self._answer_group([frames[at] for at in members]), strict=True)
        return [answers[position] for position in range(len(frames))]

    def _answer_group(self, frames: Sequence[Decoded]) -> Sequence[TaskOutput | SplitcodecError]:
        """Answers frames whose features have one shape; what goes wrong is the answer of all of them."""
        try:
            return self._run(frames)
        except SplitcodecError as error:
            return [error] * len(frames)

    def _run(self, frames: Sequence[Decoded]) -> list[TaskOutput]:
        started = time.perf_counter()
        heads = self._session.run({TAIL_INPUT: np.concatenate([frame.feature for frame in frames])})
        share = (time.perf_counter() - started) / len(frames)
        return [
            self._one(frame, {name: head[row : row + 1] for name, head in heads.items()}, share)
            for row, frame in enumerate(frames)
        ]

    def probe(self, channels: int) -> None:
        """Runs graph and postprocess on one feature of zeros with so many channels. Raises GraphFailed.

        It has the size of the largest canvas, which is also that of the only one if nothing is trimmed.
        """
        convention = self._section.input
        height, width = convention.height, convention.width
        heads = self._session.run({TAIL_INPUT: np.zeros((1, channels, height // 8, width // 8), np.float32)})
        size = FrameSize(height, width, height, width, convention.fit, convention.crop)
        self._postprocess(heads, size, self._section.labels, self._limits)

    def _one(self, frame: Decoded, heads: Mapping[str, NDArray[Any]], tail_seconds: float) -> TaskOutput:
        started = time.perf_counter()
        size = self._section.input.frame_size(frame.header)
        answer = self._postprocess(heads, size, self._section.labels, self._limits)
        own = {"tail": tail_seconds, "postprocess": time.perf_counter() - started}
        return TaskOutput(self._task, frame.header, answer, {**frame.stage_seconds, **own})

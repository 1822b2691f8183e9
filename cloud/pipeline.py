"""One frame's way through the cloud: looked up, admitted, answered in a batch, committed, reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloud.batching import Batched, Batcher
from cloud.chain_rows import ChainLink
from cloud.chains import Chains
from cloud.messages import IncomingFrame, task_result
from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.runner import Admission, FrameRunner, TaskOutput
from cloud.store import Committed, Outcome, conflict
from cloud.turns import Turns
from splitcodec.codec import LatentState
from splitcodec.errors import (
    DeadlineExceeded,
    GraphFailed,
    InvalidRequest,
    RequestError,
    SplitcodecError,
    UnknownTask,
)
from splitcodec.service_metrics import exemplar
from splitcodec.tracing import Attributes, Tracing, trace_id
from splitcodec.wire.v1.results_pb2 import TaskResult


@dataclass(frozen=True)
class Answer:
    """A frame and its result; `stored` is set when the store held the result before the frame came.

    link: what is to be kept of the frame, for those that build on it.
    """

    frame: IncomingFrame
    result: TaskResult
    stored: bool
    link: ChainLink | None = None


class Pipeline:
    """Shared by the unary call and the streams; see `infer` for the whole way."""

    def __init__(
        self,
        runner: FrameRunner,
        batcher: Batcher[Admission, TaskOutput],
        results: ResultLog,
        chains: Chains,
        metrics: CloudMetrics,
        tracing: Tracing,
        seen: Callable[[bytes, SplitcodecError | None], None] = lambda *_: None,
    ) -> None:
        """seen: told of each frame that ran, by the 8 bytes of its prompt; the error if the graphs failed."""
        self._seen = seen
        self._runner = runner
        self._batcher = batcher
        self._results = results
        self._metrics = metrics
        self._tracing = tracing
        self._chains = chains
        self._commits = Turns()

    async def infer(self, frame: IncomingFrame, timeout_s: float | None) -> Committed:
        """Answer and commit one frame within timeout_s seconds (None: no limit).

        Frames of one camera are committed in the order in which this was called. Raises DeadlineExceeded,
        QueueFull, and what `answer` and `commit` raise.
        """
        try:
            return await asyncio.wait_for(self._infer_in_turn(frame), timeout_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(
                f"{frame.key} was not answered within {timeout_s:.3f} s; allow more time or send fewer frames"
            ) from None

    async def answer(self, frame: IncomingFrame, *, wait_for_place: bool) -> Answer:
        """The result of a frame: the stored one if there is one, else a new one, not yet committed.

        Frames of one camera are decoded as if one after the other, in the order in which this was called.
        ResultRetired, without any graph run, if there was one and it was deleted since.
        """
        with self._chains.take((frame.key.device, frame.key.camera)) as turn:
            stored = await self._results.look_up(frame.key)
            if stored is not None:
                if stored.capture_time_unix_nanos != frame.capture_time:
                    raise conflict(frame.key, stored, frame.capture_time)
                return Answer(frame, stored, stored=True)
            waited_s = 0.0

            async def run(bitstream: bytes, state: LatentState | None) -> TaskOutput:
                nonlocal waited_s
                done = await self._run(frame.task, bitstream, state, wait_for_place=wait_for_place)
                waited_s = done.queue_seconds
                return done.output

            output, link = await self._chains.answer(frame, turn, run)
            return Answer(frame, self._result_of(frame, output, waited_s), stored=False, link=link)

    async def answer_once(self, task: str, bitstream: bytes, timeout_s: float | None) -> TaskOutput:
        """Answer a bitstream that is no camera's frame; nothing is kept. Errors as for `infer`."""
        work = self._run(task, bitstream, None, wait_for_place=False)
        try:
            done = await asyncio.wait_for(work, timeout_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(
                f"a bitstream of {task or 'any task'} was not answered within {timeout_s:.3f} s; "
                "allow more time"
            ) from None
        self._metrics.observe_stages({**done.output.stage_seconds, "queue": done.queue_seconds})
        return done.output

    async def commit(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Commit answers in order, in one transaction; why one is not kept takes its place."""
        started = time.perf_counter()
        fresh = [answer for answer in answers if not answer.stored]
        outcomes = iter(
            await self._results.commit([answer.result for answer in fresh], [answer.link for answer in fresh])
            if fresh
            else []
        )
        committed = [
            Committed(answer.result, repeated=True) if answer.stored else next(outcomes) for answer in answers
        ]
        seconds = time.perf_counter() - started
        for answer, outcome in zip(answers, committed, strict=True):
            self._observe(answer.frame, outcome, seconds)
        return committed

    async def _infer_in_turn(self, frame: IncomingFrame) -> Committed:
        with self._commits.take((frame.key.device, frame.key.camera)) as turn:
            answer = await self.answer(frame, wait_for_place=False)
            await turn.wait()
            (outcome,) = await self.commit([answer])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def _run(
        self, task: str, bitstream: bytes, state: LatentState | None, *, wait_for_place: bool
    ) -> Batched[TaskOutput]:
        with self._runner.admit(bitstream, state) as frame:
            self._check_task(task, frame.task)
            with self._metrics.pending.track_inprogress():
                try:
                    done = await self._batcher.submit(frame, frame.group, wait_for_place=wait_for_place)
                except GraphFailed as error:
                    self._seen(frame.prompt_digest, error)
                    raise
            self._seen(frame.prompt_digest, None)
            return done

    def _check_task(self, asked: str, held: str) -> None:
        if asked in ("", held):
            return
        served = sorted({prompt.task for prompt in self._runner.prompts()})
        if asked not in served:
            raise UnknownTask(f"task {asked!r} is not served here; the tasks are {', '.join(served)}")
        raise InvalidRequest(
            f"the frame asks for task {asked!r}, its bitstream was made with the prompt of {held!r}; "
            "encode it with the prompt of the task"
        )

    def _result_of(self, frame: IncomingFrame, output: TaskOutput, waited_s: float) -> TaskResult:
        result = task_result(frame, output, time.time_ns())
        result.stage_seconds["queue"] = waited_s
        self._metrics.observe_stages(result.stage_seconds)
        return result

    def _observe(self, frame: IncomingFrame, outcome: Outcome, commit_seconds: float) -> None:
        if isinstance(outcome, RequestError):
            return
        result = outcome.result
        self._metrics.frames.labels(result.task, "repeated" if outcome.repeated else "stored").inc()
        if outcome.repeated:
            return
        self._metrics.observe_stages({"commit": commit_seconds})
        self._metrics.bitstream_bytes.labels(result.task).inc(len(frame.bitstream))
        age = (result.finished_time_unix_nanos - frame.capture_time) / 1e9
        traced = exemplar(trace_id(frame.parent))
        self._metrics.capture_to_result.labels(result.task).observe(max(age, 0.0), traced)
        self._trace(frame, result)

    def _trace(self, frame: IncomingFrame, result: TaskResult) -> None:
        """From the frame's arrival to its commit."""
        if frame.parent is None:
            return
        stages = {f"splitcodec.{stage}_seconds": value for stage, value in result.stage_seconds.items()}
        attributes: Attributes = {
            "splitcodec.task": result.task,
            "splitcodec.bytes": result.num_bytes,
            **stages,
        }
        self._tracing.child("answer", frame.parent, frame.received_time, time.time_ns(), attributes)

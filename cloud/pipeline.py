"""One frame's way through the cloud: looked up, admitted, answered in a batch, committed, reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cloud.batching import Batched, Batcher
from cloud.messages import IncomingFrame, task_result
from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.runner import Admission, FrameRunner, TaskOutput
from cloud.store import Committed, Outcome, conflict
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
    """A frame and its result; `stored` is set when the store held the result before the frame came."""

    frame: IncomingFrame
    result: TaskResult
    stored: bool


class Pipeline:
    """Shared by the unary call and the streams; see `infer` for the whole way."""

    def __init__(
        self,
        runner: FrameRunner,
        batcher: Batcher[Admission, TaskOutput],
        results: ResultLog,
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
        self._turns: dict[tuple[str, str], _Turn] = {}

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

        ResultRetired, without any graph run, if there was one and it was deleted since.
        """
        stored = await self._results.look_up(frame.key)
        if stored is not None:
            if stored.capture_time_unix_nanos != frame.capture_time:
                raise conflict(frame.key, stored, frame.capture_time)
            return Answer(frame, stored, stored=True)
        done = await self._run(frame.task, frame.bitstream, wait_for_place=wait_for_place)
        return Answer(frame, self._result_of(frame, done), stored=False)

    async def answer_once(self, task: str, bitstream: bytes, timeout_s: float | None) -> TaskOutput:
        """Answer a bitstream that is no camera's frame; nothing is kept. Errors as for `infer`."""
        work = self._run(task, bitstream, wait_for_place=False)
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
        outcomes = iter(await self._results.commit([answer.result for answer in fresh]) if fresh else [])
        committed = [
            Committed(answer.result, repeated=True) if answer.stored else next(outcomes) for answer in answers
        ]
        seconds = time.perf_counter() - started
        for answer, outcome in zip(answers, committed, strict=True):
            self._observe(answer.frame, outcome, seconds)
        return committed

    async def _infer_in_turn(self, frame: IncomingFrame) -> Committed:
        async with self._turn(frame.key.device, frame.key.camera) as turn:
            answer = await self.answer(frame, wait_for_place=False)
            await turn.wait()
            (outcome,) = await self.commit([answer])
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def _run(self, task: str, bitstream: bytes, *, wait_for_place: bool) -> Batched[TaskOutput]:
        with self._runner.admit(bitstream) as frame:
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

    def _result_of(self, frame: IncomingFrame, done: Batched[TaskOutput]) -> TaskResult:
        result = task_result(frame, done.output, time.time_ns())
        result.stage_seconds["queue"] = done.queue_seconds
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

    @asynccontextmanager
    async def _turn(self, device: str, camera: str) -> AsyncIterator[_Turn]:
        """A place in the camera's queue for commits, given up when the block ends."""
        lane = (device, camera)
        before = self._turns.get(lane)
        turn = _Turn(before.over if before else None)
        self._turns[lane] = turn
        turn.over.add_done_callback(lambda _: self._forget(lane, turn))
        try:
            yield turn
        finally:
            turn.end()

    def _forget(self, lane: tuple[str, str], turn: _Turn) -> None:
        if self._turns.get(lane) is turn:
            del self._turns[lane]


class _Turn:
    """One place in a queue: over once its holder is done and every place before it is over."""

    def __init__(self, before: asyncio.Future[None] | None) -> None:
        self._before = before
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Until every place before this one is over."""
        if self._before is not None:
            await asyncio.shield(self._before)

    def end(self) -> None:
        """The holder is done, whether or not its turn came."""
        if self._before is None or self._before.done():
            self.over.set_result(None)
        else:
            self._before.add_done_callback(lambda _: self.over.set_result(None))

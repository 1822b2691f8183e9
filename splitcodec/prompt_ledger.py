"""In which state each prompt of a service is, since when and why: for its interface, its metrics and its log.

staged -> verified -> warm <-> active -> warm -> draining -> retired
   \\---------\\-----> failed, with the reason
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from splitcodec.errors import SplitcodecError
from splitcodec.service_metrics import ServiceMetrics
from splitcodec.texts import shortened
from splitcodec.wire.v1 import prompts_pb2

log = logging.getLogger(__name__)

PromptState: TypeAlias = Literal["staged", "verified", "warm", "active", "draining", "retired", "failed"]
GONE: Final = ("retired", "failed")
MAX_GONE: Final = 16  # kept of those, the newest
MAX_REASON: Final = 1000  # characters


@dataclass(frozen=True)
class PromptRecord:
    """The state of a prompt; prompt_digest: first 8 bytes, hex; since: unix seconds; reason: of a failure."""

    task: str
    prompt_digest: str
    state: PromptState
    since: float
    reason: str = ""

    def message(self) -> prompts_pb2.PromptRecord:
        """As it travels."""
        return prompts_pb2.PromptRecord(
            task=self.task,
            prompt_digest=bytes.fromhex(self.prompt_digest),
            state=self.state,
            since_unix_nanos=int(self.since * 1e9),
            reason=self.reason,
        )


class PromptLedger:
    """For any thread."""

    def __init__(self, metrics: ServiceMetrics, clock: Callable[[], float] = time.time) -> None:
        """clock: unix time in seconds."""
        self._info = metrics.prompt_info
        self._seconds = metrics.prompt_stage
        self._clock = clock
        self._records: dict[str, PromptRecord] = {}
        self._lock = threading.Lock()

    def records(self) -> tuple[PromptRecord, ...]:
        """The latest state of each, oldest change first; of those that are gone, the MAX_GONE newest."""
        with self._lock:
            return tuple(sorted(self._records.values(), key=lambda record: record.since))

    def note(self, task: str, digest: str, state: PromptState, reason: str = "") -> None:
        """A prompt (8 bytes in hex) is in a state now; nothing happens if it was in it already."""
        with self._lock:
            before = self._records.pop(digest, None)
            if before is not None and before.state == "failed" and state == "warm":
                state, reason = before.state, before.reason  # it is held, and not to be trusted
            if before is not None and (before.state, before.reason) == (state, reason):
                self._records[digest] = before
                return
            if before is not None:
                self._info.remove(before.task, digest, before.state)
            record = PromptRecord(task, digest, state, self._clock(), shortened(reason, MAX_REASON))
            self._records[digest] = record
            self._info.labels(task, digest, state).set(1)
            self._forget_the_oldest()
        level = logging.ERROR if state == "failed" else logging.INFO
        log.log(level, "prompt %s of task %s is %s%s", digest, task, state, f": {reason}" if reason else "")

    def has_failed(self, digest: str) -> bool:
        """Whether a prompt (8 bytes in hex) did, and was not active or brought anew since."""
        with self._lock:
            record = self._records.get(digest)
            return record is not None and record.state == "failed"

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Measure a stage of a change: fetch, verify, warm, store or switch."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(stage).observe(time.perf_counter() - started)

    @contextmanager
    def arriving(self, task: str, digest: str) -> Iterator[None]:
        """A prompt that is not held yet is brought in; an error is its reason to have failed."""
        self.note(task, digest, "staged")
        try:
            yield
        except SplitcodecError as error:
            self.note(task, digest, "failed", str(error))
            raise

    def _forget_the_oldest(self) -> None:
        gone = [digest for digest, record in self._records.items() if record.state in GONE]
        for digest in gone[: max(0, len(gone) - MAX_GONE)]:
            record = self._records.pop(digest)
            self._info.remove(record.task, digest, record.state)

"""What the edge does beside its calls goes on after any failure, and each failure is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from edge_rig import edge_rig, picture, tiny_codec
from prometheus_client import CollectorRegistry
from waiting import until

from edge import delivery, follow
from edge.codec import Codec
from edge.follow import CloudPrompt, PromptFollower, following
from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.sources import camera
from edge.sources.fleet import checked_sources, reading_sources
from edge.spool import Spool
from edge.spool_log import SpoolLog
from edge.spool_policy import SpoolLimits
from edge.uplink import _GrpcStream
from splitcodec.errors import CloudUnavailable, SpoolUnavailable
from splitcodec.prompt_ledger import PromptRecord

PATIENCE_S = 30.0


class _Panic(BaseException):
    """What an extension in Rust raises: no Exception."""


FAILURES = (RuntimeError("unforeseen"), _Panic("panic"), asyncio.CancelledError())
each_failure = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "AGAIN_S", 0.01)
    monkeypatch.setattr(delivery, "TEND_S", 0.01)
    monkeypatch.setattr(follow, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(camera, "PAUSE_S", (0.01, 0.02))


def failures(metrics: EdgeMetrics, task: str) -> float:
    return metrics.background_failures.labels(task)._value.get()


class Failing:
    """An asynchronous function that raises the first time and tells when it has worked again."""

    def __init__(self, real: Callable[..., Awaitable[Any]], failure: BaseException) -> None:
        self._real = real
        self._failures = [failure]
        self.worked = asyncio.Event()

    async def __call__(self, *args: object) -> object:
        if self._failures:
            raise self._failures.pop()
        result = await self._real(*args)
        self.worked.set()
        return result

    def put(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        """In the place of a method."""

        async def method(*args: object) -> object:
            return await self(*args)

        monkeypatch.setattr(owner, name, method)


async def in_time(work: Awaitable[object]) -> None:
    await asyncio.wait_for(work, PATIENCE_S)


@each_failure
async def test_delivery_survives_a_failing_look_at_the_backlog(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    Failing(Outbox.find_backlog, failure).put(monkeypatch, Outbox, "find_backlog")
    async with edge_rig(codec, tmp_path) as rig:
        assert (await rig.post()).status_code == 200
        assert failures(rig.pipeline.metrics, "delivery") == 1


@each_failure
async def test_delivery_survives_a_part_of_its_stream_that_fails(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    failing = Failing(_GrpcStream.send, failure)
    failing.put(monkeypatch, _GrpcStream, "send")
    async with edge_rig(codec, tmp_path) as rig:
        assert (await rig.post()).status_code in (200, 202)  # 202: the stream ended under it
        assert (await rig.post()).status_code in (200, 202)
        await rig.cloud.wait_for(frames=2)
        assert failures(rig.pipeline.metrics, "delivery") == 1


@each_failure
async def test_the_spool_is_tended_after_a_failure(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    failing = Failing(Outbox.tend, failure)
    failing.put(monkeypatch, Outbox, "tend")
    async with edge_rig(codec, tmp_path) as rig:
        await in_time(failing.worked.wait())
        assert failures(rig.pipeline.metrics, "spool") == 1


async def test_work_behind_one_that_fails_is_done_at_the_next_try(tmp_path: Path) -> None:
    metrics = EdgeMetrics(CollectorRegistry())
    log = SpoolLog(Spool(tmp_path, SpoolLimits(2**30, 86_400), metrics), metrics)
    outbox, calls = Outbox(log), []

    def refuse(spool: Spool) -> None:
        calls.append("refuse")
        if calls.count("refuse") == 1:
            raise SpoolUnavailable("disk")
        raise RuntimeError("unforeseen")

    def note(spool: Spool) -> None:
        calls.append("note")
        if calls.count("note") == 1:
            raise SpoolUnavailable("disk")

    await outbox._write(refuse)
    await outbox._write(note)
    with pytest.raises(RuntimeError, match="unforeseen"):
        await outbox.tend(False)
    assert calls == ["refuse", "note", "refuse"]
    await outbox.tend(False)
    assert calls == ["refuse", "note", "refuse", "note"]
    await log.stop()


@pytest.mark.parametrize("failure", [RuntimeError("no"), MemoryError(), _Panic("panic")], ids=repr)
async def test_a_write_that_fails_tells_all_its_callers_and_the_next_goes(
    tmp_path: Path, failure: BaseException
) -> None:
    metrics = EdgeMetrics(CollectorRegistry())
    log = SpoolLog(Spool(tmp_path, SpoolLimits(2**30, 86_400), metrics), metrics)

    def fail(spool: Spool) -> None:
        raise failure

    both = asyncio.gather(log.run(fail), log.run(Spool.lanes), return_exceptions=True)
    assert await asyncio.wait_for(both, PATIENCE_S) == [failure, failure]
    assert await asyncio.wait_for(log.run(Spool.lanes), PATIENCE_S) == {}
    Outbox(log).write(fail)
    await until(lambda: failures(metrics, "spool") == 1)
    await log.stop()


@pytest.mark.slow
@each_failure
async def test_a_camera_is_read_on_after_a_failure(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(picture())
    Failing(camera.CameraReader._read_once, failure).put(monkeypatch, camera.CameraReader, "_read_once")
    async with (
        edge_rig(codec, tmp_path / "state", source=(f"door=folder:{folder}",)) as rig,
        reading_sources(rig.pipeline, checked_sources(rig.pipeline.settings)),
    ):
        await rig.cloud.wait_for(frames=1)
        assert failures(rig.pipeline.metrics, "camera") == 1


class _Source:
    """A cloud whose first connection fails, and that says nothing new on the second."""

    def __init__(self, failure: BaseException) -> None:
        self._failures = [failure]
        self.watched = asyncio.Event()

    async def watch(self) -> AsyncGenerator[Sequence[CloudPrompt], None]:
        if self._failures:
            raise self._failures.pop()
        self.watched.set()
        yield []
        await asyncio.Event().wait()

    async def fetch(self, prompt_digest: bytes, place: Path, max_bytes: int) -> None:
        raise AssertionError

    async def confirm(self, device: str, codec_digest: bytes, records: Sequence[PromptRecord]) -> None:
        raise CloudUnavailable("an older cloud does not listen")


@each_failure
async def test_prompts_are_followed_after_a_failure(
    codec: Codec, tmp_path: Path, failure: BaseException
) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        source = _Source(failure)
        follower = PromptFollower(rig.pipeline.prompts, source, "box-1", bytes(8), 1000)
        counter = rig.pipeline.metrics.background_failures
        async with following(follower, counter):
            await in_time(source.watched.wait())
        assert failures(rig.pipeline.metrics, "prompts") == 1

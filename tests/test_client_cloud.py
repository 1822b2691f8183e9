"""splitcodec.client against a real cloud: nothing missing, nothing twice, errors by their class."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cloud_helpers import CAPTURED, PATIENCE_S, Cloud, infer_request, running
from fault_proxy import FaultProxy, fault_proxy
from waiting import until

from splitcodec.client import AsyncCloudClient, AsyncWatch, CloudClient, Credentials, Retry, StoredResult
from splitcodec.client.cloud_calls import Which
from splitcodec.client.watching import Watching
from splitcodec.errors import (
    CloudUnavailable,
    CursorOutOfRange,
    InvalidRequest,
    ResultNotFound,
    SettingsError,
)
from splitcodec.tasks import Box, Detection
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult, WatchResultsResponse

QUICK = Retry(first_pause_s=0.01, longest_pause_s=0.05)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
def link(cloud: Cloud) -> Iterator[FaultProxy]:
    with fault_proxy(target(cloud)) as proxy:
        yield proxy


def target(cloud: Cloud) -> str:
    return f"127.0.0.1:{cloud.server.grpc_port}"


async def post(cloud: Cloud, *seqs: int, camera: str = "door") -> None:
    for seq in seqs:
        await cloud.ingest.Infer(infer_request(seq, camera), timeout=PATIENCE_S)


async def take(watch: AsyncWatch, count: int) -> list[int]:
    return [(await asyncio.wait_for(anext(watch), PATIENCE_S)).seq for _ in range(count)]


async def opened(watch: AsyncWatch) -> asyncio.Task[StoredResult]:
    """The first result to come; returns once the cloud has the watch, so nothing posted later is missed."""
    first = asyncio.ensure_future(anext(watch))
    await until(lambda: watch.cursor is not None)
    return first


async def test_get_has_every_field_of_the_result(cloud: Cloud) -> None:
    await post(cloud, 7)
    async with AsyncCloudClient(target(cloud)) as client:
        result = await client.get("box", "door", 7)
    assert (result.device, result.camera, result.seq, result.cursor) == ("box", "door", 7, 1)
    assert result.detections == (Detection("door-7", 1, 0.5, Box(1.0, 2.0, 3.0, 4.0)),)
    assert (result.task, result.rate, result.stage_seconds["decoder"]) == ("detect", 1.0, 0.25)
    assert (result.source_height, result.source_width) == (480, 640)
    assert (result.network_height, result.network_width) == (32, 32)
    assert result.capture_time == (CAPTURED + 7) / 1e9
    assert result.capture_time < result.received_time <= result.finished_time
    assert result.codec_digest == bytes(range(8)).hex()


async def test_an_unknown_frame_is_the_clouds_own_error(cloud: Cloud) -> None:
    async with AsyncCloudClient(target(cloud)) as client:
        with pytest.raises(ResultNotFound, match="no result for frame box/door/9"):
            await client.get("box", "door", 9)
        with pytest.raises(InvalidRequest, match="seq is -1"):
            await client.get("box", "door", -1)
        with pytest.raises(InvalidRequest, match="device"):
            await client.get("no such name", "door", 1)


async def test_list_goes_through_all_pages_with_filters(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitcodec.client.cloud_calls.PAGE", 3)
    await post(cloud, *range(7))
    await post(cloud, 1, camera="yard")
    async with AsyncCloudClient(target(cloud)) as client:
        assert [one.seq async for one in client.list("door")] == list(range(7))
        assert [one.seq async for one in client.list("door", newest_first=True)] == list(range(7))[::-1]
        assert [one.camera async for one in client.list(device="box", camera="yard")] == ["yard"]
        assert [one async for one in client.list(task="segment")] == []
        start = datetime.fromtimestamp(CAPTURED / 1e9, timezone.utc)
        assert [one async for one in client.list(since=start + timedelta(seconds=1))] == []
        assert len([one async for one in client.list(until=start + timedelta(seconds=1))]) == 8
        with pytest.raises(InvalidRequest, match="no time zone"):
            await anext(client.list(since=datetime(2026, 1, 1)))


async def test_list_and_watch_without_outputs_have_no_answers(cloud: Cloud) -> None:
    await post(cloud, 1, 2)
    async with AsyncCloudClient(target(cloud)) as client:
        listed = [one async for one in client.list("door", without_output=True)]
        async with aclosing(client.watch("door", after=0, without_output=True)) as watch:
            watched = [await asyncio.wait_for(anext(watch), PATIENCE_S) for _ in range(2)]
        whole = [one async for one in client.list("door")]

    def block() -> tuple[list[StoredResult], StoredResult]:
        with CloudClient(target(cloud)) as client:
            watch = client.watch("door", after=0, without_output=True)
            first = next(watch)
            watch.close()
            return list(client.list("door", without_output=True)), first

    blocked, first = await asyncio.to_thread(block)
    assert [one.answer for one in listed] == [one.detections for one in listed] == [None, None]
    assert listed == watched == blocked
    assert first == listed[0]
    assert all(one.detections for one in whole)
    assert [replace(one, answer=None) for one in whole] == listed


async def test_prompts_say_what_the_cloud_decodes(cloud: Cloud) -> None:
    async with AsyncCloudClient(target(cloud)) as client:
        (prompt,) = await client.prompts()
        assert (prompt.task, prompt.max_rate, prompt.labels) == ("detect", 3, ("cat", "dog"))
        assert await client.prompts("segment") == ()


async def test_a_call_waits_for_a_cloud_that_comes_back(cloud: Cloud, link: FaultProxy) -> None:
    await post(cloud, 1)
    link.set(refuse=True)
    async with AsyncCloudClient(link.address, retry=Retry(100, 0.01, 0.05), deadline_s=PATIENCE_S) as client:
        call = asyncio.ensure_future(client.get("box", "door", 1))
        await until(lambda: link.connections_seen >= 2)
        link.heal()
        assert (await call).seq == 1


async def test_a_cloud_that_is_not_there_is_an_error_within_the_deadline() -> None:
    async with AsyncCloudClient("127.0.0.1:1", deadline_s=0.5, retry=QUICK) as client:
        with pytest.raises(CloudUnavailable, match=r"the cloud at 127\.0\.0\.1:1 answered UNAVAILABLE"):
            await client.get("box", "door", 1)


async def test_watch_without_a_cursor_gives_only_what_comes(cloud: Cloud) -> None:
    await post(cloud, 1, 2)
    async with AsyncCloudClient(target(cloud)) as client:
        watch = client.watch("door")
        first = await opened(watch)
        await post(cloud, 3)
        await post(cloud, 9, camera="yard")
        await post(cloud, 4)
        assert [(await first).seq, *await take(watch, 1)] == [3, 4]


async def test_watch_from_a_cursor_gives_the_rest(cloud: Cloud) -> None:
    await post(cloud, *range(5))
    async with AsyncCloudClient(target(cloud)) as client:
        everything = client.watch("door", after=0)
        assert await take(everything, 2) == [0, 1]
        assert await take(client.watch("door", after=everything.cursor), 3) == [2, 3, 4]


async def test_watch_misses_and_repeats_nothing_over_cut_connections(cloud: Cloud, link: FaultProxy) -> None:
    async with AsyncCloudClient(link.address, retry=QUICK) as client:
        watch = client.watch("door")
        first = await opened(watch)
        link.cut()  # before anything came: the cursor is the one the cloud said at the start
        await post(cloud, 0)
        seen = [(await asyncio.wait_for(first, PATIENCE_S)).seq]
        for round_number in range(1, 12, 2):
            await post(cloud, round_number)
            link.cut()
            await post(cloud, round_number + 1)
            seen += await take(watch, 2)
        assert link.connections_seen > 3
    assert seen == list(range(13))


async def test_watch_goes_on_over_a_restart_of_the_cloud(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        port = cloud.server.grpc_port
        client = AsyncCloudClient(target(cloud), retry=QUICK)
        watch = client.watch("door")
        first = await opened(watch)
        await post(cloud, 0)
        seen = [(await first).seq]
        waiting = asyncio.ensure_future(anext(watch))
    async with running(tmp_path) as cloud, client:
        with fault_proxy(target(cloud), port=port):
            await post(cloud, 1, 2)
            seen += [(await asyncio.wait_for(waiting, PATIENCE_S)).seq, *await take(watch, 1)]
    assert seen == [0, 1, 2]


async def test_a_cancelled_wait_loses_nothing(cloud: Cloud) -> None:
    async with AsyncCloudClient(target(cloud), retry=QUICK) as client:
        watch = client.watch("door")
        (await opened(watch)).cancel()
        await post(cloud, 1)
        assert await take(watch, 1) == [1]


async def test_a_gap_is_an_error_not_a_silence(cloud: Cloud) -> None:
    await post(cloud, *range(5))
    await cloud.server.retire(max_age_days=0)
    await post(cloud, 5)
    async with AsyncCloudClient(target(cloud)) as client:
        with pytest.raises(CursorOutOfRange):
            await take(client.watch("door", after=2), 1)


async def test_patience_ends_a_watch_without_a_connection() -> None:
    async with AsyncCloudClient("127.0.0.1:1", retry=QUICK) as client:
        with pytest.raises(CloudUnavailable):
            await asyncio.wait_for(anext(client.watch("door", patience_s=0.1)), PATIENCE_S)


def test_a_result_that_comes_again_is_passed_over() -> None:
    watching = Watching("cloud", Which(), 5, QUICK, None)

    def response(cursor: int) -> WatchResultsResponse:
        result = TaskResult(key=FrameKey(device="box", camera="door", seq=cursor), cursor=cursor)
        result.detections.SetInParent()
        return WatchResultsResponse(result=result)

    passed = [watching.passed(response(cursor)) for cursor in (4, 5, 6, 6, 8)]
    assert [one.cursor for one in passed if one is not None] == [6, 8]
    assert watching.request().after_cursor == 8


async def test_blocking_client_makes_the_same_calls(cloud: Cloud) -> None:
    await post(cloud, *range(3))

    def calls() -> tuple[int, list[int], str, list[int]]:
        with CloudClient(target(cloud)) as client:
            with pytest.raises(ResultNotFound):
                client.get("box", "door", 9)
            watch = client.watch("door", after=0)
            live = [next(watch).seq for _ in range(3)]
            watch.close()
            assert list(watch) == []
            found = client.get("box", "door", 1).seq
            return found, [one.seq for one in client.list("door")], client.prompts()[0].task, live

    assert await asyncio.to_thread(calls) == (1, [0, 1, 2], "detect", [0, 1, 2])


async def test_blocking_watch_misses_and_repeats_nothing_over_cut_connections(
    cloud: Cloud, link: FaultProxy
) -> None:
    with CloudClient(link.address, retry=QUICK) as client:
        watch = client.watch("door", after=0)
        seen: list[int] = []
        for seq in range(0, 8, 2):
            await post(cloud, seq)
            link.cut()
            await post(cloud, seq + 1)
            seen += await asyncio.to_thread(lambda: [next(watch).seq, next(watch).seq])
        assert link.connections_seen > 2
    assert seen == list(range(8))


async def test_blocking_watch_ends_when_another_thread_closes_it(cloud: Cloud) -> None:
    with CloudClient(target(cloud)) as client:
        watch = client.watch("door")
        found: list[StoredResult] = []
        reader = threading.Thread(target=lambda: found.extend(watch))
        reader.start()
        await until(lambda: watch.cursor is not None)
        watch.close()
        await asyncio.to_thread(reader.join, PATIENCE_S)
        assert not reader.is_alive()
    assert found == []


def test_a_token_never_travels_in_the_clear_and_is_never_shown() -> None:
    login = Credentials(token="very-secret")
    with pytest.raises(SettingsError, match="unencrypted"):
        CloudClient("cloud.example:50051", credentials=login)
    assert "very-secret" not in repr(login)
    with pytest.raises(SettingsError, match="control characters"):
        Credentials(token="two\nlines")
    CloudClient("127.0.0.1:50051", credentials=login).close()
    CloudClient("cloud.example:50051", credentials=Credentials(token="very-secret", tls=True)).close()

"""splitcodec.client against a real cloud: nothing missing, nothing twice, errors by their class."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from client_rig import QUICK, cloud, link, post
from cloud_helpers import CAPTURED, PATIENCE_S, Cloud
from fault_proxy import FaultProxy
from waiting import until

from splitcodec.client import AsyncCloudClient, CloudClient, Credentials, Retry, StoredResult
from splitcodec.errors import (
    CloudUnavailable,
    InvalidRequest,
    ResultNotFound,
    SettingsError,
)
from splitcodec.tasks import Box, Detection

__all__ = ["cloud", "link"]


async def test_get_has_every_field_of_the_result(cloud: Cloud) -> None:
    await post(cloud, 7)
    async with AsyncCloudClient(cloud.target) as client:
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
    async with AsyncCloudClient(cloud.target) as client:
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
    async with AsyncCloudClient(cloud.target) as client:
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
    async with AsyncCloudClient(cloud.target) as client:
        listed = [one async for one in client.list("door", without_output=True)]
        async with aclosing(client.watch("door", after=0, without_output=True)) as watch:
            watched = [await asyncio.wait_for(anext(watch), PATIENCE_S) for _ in range(2)]
        whole = [one async for one in client.list("door")]

    def block() -> tuple[list[StoredResult], StoredResult]:
        with CloudClient(cloud.target) as client:
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
    async with AsyncCloudClient(cloud.target) as client:
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


async def test_blocking_client_makes_the_same_calls(cloud: Cloud) -> None:
    await post(cloud, *range(3))

    def calls() -> tuple[int, list[int], str, list[int]]:
        with CloudClient(cloud.target) as client:
            with pytest.raises(ResultNotFound):
                client.get("box", "door", 9)
            watch = client.watch("door", after=0)
            live = [next(watch).seq for _ in range(3)]
            watch.close()
            assert list(watch) == []
            found = client.get("box", "door", 1).seq
            return found, [one.seq for one in client.list("door")], client.prompts()[0].task, live

    assert await asyncio.to_thread(calls) == (1, [0, 1, 2], "detect", [0, 1, 2])


def test_a_token_never_travels_in_the_clear_and_is_never_shown() -> None:
    login = Credentials(token="very-secret")
    with pytest.raises(SettingsError, match="unencrypted"):
        CloudClient("cloud.example:50051", credentials=login)
    assert "very-secret" not in repr(login)
    with pytest.raises(SettingsError, match="control characters"):
        Credentials(token="two\nlines")
    CloudClient("127.0.0.1:50051", credentials=login).close()
    CloudClient("cloud.example:50051", credentials=Credentials(token="very-secret", tls=True)).close()

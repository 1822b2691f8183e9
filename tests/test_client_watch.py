"""Watching with splitcodec.client against a real cloud: nothing missing, nothing twice, no silent gap."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from client_rig import QUICK, cloud, link, opened, post, take
from cloud_helpers import PATIENCE_S, Cloud, running
from fault_proxy import FaultProxy, fault_proxy
from waiting import until

from splitcodec.client import AsyncCloudClient, CloudClient, StoredResult
from splitcodec.client.cloud_calls import Which
from splitcodec.client.watching import Watching
from splitcodec.errors import (
    CloudUnavailable,
    CursorOutOfRange,
)
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult, WatchResultsResponse

__all__ = ["cloud", "link"]


async def test_watch_without_a_cursor_gives_only_what_comes(cloud: Cloud) -> None:
    await post(cloud, 1, 2)
    async with AsyncCloudClient(cloud.target) as client:
        watch = client.watch("door")
        first = await opened(watch)
        await post(cloud, 3)
        await post(cloud, 9, camera="yard")
        await post(cloud, 4)
        assert [(await first).seq, *await take(watch, 1)] == [3, 4]


async def test_watch_from_a_cursor_gives_the_rest(cloud: Cloud) -> None:
    await post(cloud, *range(5))
    async with AsyncCloudClient(cloud.target) as client:
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


async def test_watch_notices_a_result_that_vanished_on_the_way(cloud: Cloud, link: FaultProxy) -> None:
    async with AsyncCloudClient(link.address, retry=QUICK) as client:
        watch = client.watch("door")
        first = await opened(watch)
        for seq in (0, 3):
            link.set(lose_every=1)
            lost = link.lost
            await post(cloud, seq)
            await post(cloud, 1 + seq, camera="yard")  # no message of this watch
            await until(lambda lost=lost: link.lost > lost)
            link.heal()
            await post(cloud, seq + 1)
            seen = [(await asyncio.wait_for(first, PATIENCE_S)).seq] if seq == 0 else await take(watch, 1)
            seen += await take(watch, 1)
            assert seen == [seq, seq + 1]
            await post(cloud, seq + 2)
            assert await take(watch, 1) == [seq + 2]


async def test_watch_goes_on_over_a_restart_of_the_cloud(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        port = cloud.server.grpc_port
        client = AsyncCloudClient(cloud.target, retry=QUICK)
        watch = client.watch("door")
        first = await opened(watch)
        await post(cloud, 0)
        seen = [(await first).seq]
        waiting = asyncio.ensure_future(anext(watch))
    async with running(tmp_path) as cloud, client:
        with fault_proxy(cloud.target, port=port):
            await post(cloud, 1, 2)
            seen += [(await asyncio.wait_for(waiting, PATIENCE_S)).seq, *await take(watch, 1)]
    assert seen == [0, 1, 2]


async def test_a_cancelled_wait_loses_nothing(cloud: Cloud) -> None:
    async with AsyncCloudClient(cloud.target, retry=QUICK) as client:
        watch = client.watch("door")
        (await opened(watch)).cancel()
        await post(cloud, 1)
        assert await take(watch, 1) == [1]


async def test_a_gap_is_an_error_not_a_silence(cloud: Cloud) -> None:
    await post(cloud, *range(5))
    await cloud.server.retire(max_age_days=0)
    await post(cloud, 5)
    async with AsyncCloudClient(cloud.target) as client:
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


async def test_blocking_watch_notices_a_result_that_vanished_on_the_way(
    cloud: Cloud, link: FaultProxy
) -> None:
    with CloudClient(link.address, retry=QUICK) as client:
        watch = client.watch("door", after=0)
        await post(cloud, 0)
        assert (await asyncio.to_thread(next, watch)).seq == 0
        link.set(lose_every=1)
        await post(cloud, 1)
        await until(lambda: link.lost)
        link.heal()
        await post(cloud, 2)
        assert [(await asyncio.to_thread(next, watch)).seq for _ in range(2)] == [1, 2]
        watch.close()


async def test_blocking_watch_ends_when_another_thread_closes_it(cloud: Cloud) -> None:
    with CloudClient(cloud.target) as client:
        watch = client.watch("door")
        found: list[StoredResult] = []
        reader = threading.Thread(target=lambda: found.extend(watch))
        reader.start()
        await until(lambda: watch.cursor is not None)
        watch.close()
        await asyncio.to_thread(reader.join, PATIENCE_S)
        assert not reader.is_alive()
    assert found == []

"""Results.Get, List and Watch over a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from cloud_helpers import CAPTURED, PATIENCE_S, Cloud, PlainRunner, error_name, infer_request, running

from cloud.runner import TaskOutput
from splitcodec.bitstream import Bitstream
from splitcodec.tasks import ClassShare, SegmentationMask
from splitcodec.wire.v1.results_pb2 import (
    FrameKey,
    GetResultRequest,
    ListResultsRequest,
    TaskResult,
    WatchResultsRequest,
)

RUNS = 60_000


async def post(cloud: Cloud, camera: str, *seqs: int) -> None:
    for seq in seqs:
        await cloud.ingest.Infer(infer_request(seq, camera), timeout=PATIENCE_S)


async def take(call: grpc.aio.UnaryStreamCall, count: int) -> list[TaskResult]:
    return [(await asyncio.wait_for(call.read(), PATIENCE_S)).result for _ in range(count)]


def names(results: list[TaskResult]) -> list[tuple[str, int]]:
    return [(result.key.camera, result.key.seq) for result in results]


async def status_of(call: grpc.aio.UnaryStreamCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), PATIENCE_S)
    return caught.value


async def test_get_of_an_unknown_frame_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.results.Get(GetResultRequest(key=FrameKey(device="box", camera="door", seq=9)))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert error_name(caught.value) == "ResultNotFound"


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_join_up_to_the_whole_history(tmp_path: Path, newest_first: bool) -> None:
    async with running(tmp_path) as cloud:
        for seq in range(7):
            await post(cloud, "door", seq)
            await post(cloud, "yard", seq)
        pages = []
        token = ""
        while True:
            page = await cloud.results.List(
                ListResultsRequest(camera="yard", page_size=3, page_token=token, newest_first=newest_first)
            )
            pages.append([result.key.seq for result in page.results])
            token = page.next_page_token
            if not token:
                break
    expected = [[0, 1, 2], [3, 4, 5], [6]]
    assert pages == ([[6, 5, 4], [3, 2, 1], [0]] if newest_first else expected)


async def test_list_filters_by_device_camera_task_and_capture_time(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await post(cloud, "door", 1, 2, 3, 4)
        await post(cloud, "yard", 1)

        async def count(**fields: object) -> int:
            return len((await cloud.results.List(ListResultsRequest(**fields))).results)

        assert await count() == 5
        assert await count(device="box", camera="door") == 4
        assert await count(device="other") == 0
        assert await count(task="detect") == 5
        assert await count(task="segment") == 0
        between = {
            "captured_from_unix_nanos": CAPTURED + 2,
            "captured_until_unix_nanos": CAPTURED + 4,
        }
        assert await count(camera="door", **between) == 2


@pytest.mark.parametrize(
    "fields",
    [{"page_size": 1001}, {"page_token": "x"}, {"page_token": "9" * 30}, {"camera": "a b"}],
    ids=lambda fields: next(iter(fields)),
)
async def test_list_refuses_what_it_did_not_give_out(tmp_path: Path, fields: dict[str, object]) -> None:
    async with running(tmp_path) as cloud:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.results.List(ListResultsRequest(**fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_name(caught.value) == "InvalidRequest"


async def test_watch_shows_what_comes_from_now_on_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await post(cloud, "door", 1)
        call = cloud.results.Watch(WatchResultsRequest(camera="door"))
        start = dict(await call.initial_metadata())["splitcodec-cursor"]
        await post(cloud, "yard", 1)
        await post(cloud, "door", 2, 3)
        seen = await take(call, 2)
        call.cancel()
    assert start == "1"
    assert names(seen) == [("door", 2), ("door", 3)]


async def test_watch_resumes_from_a_cursor_without_gap_or_repeat(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        seen: list[TaskResult] = []
        cursor = 0
        for round_ in range(4):
            await post(cloud, "door", *range(10 * round_, 10 * round_ + 5))
            call = cloud.results.Watch(WatchResultsRequest(after_cursor=cursor))
            seen += await take(call, 3)
            await post(cloud, "door", *range(10 * round_ + 5, 10 * round_ + 10))
            seen += await take(call, 4)
            call.cancel()
            cursor = seen[-1].cursor
        seen += await take(cloud.results.Watch(WatchResultsRequest(after_cursor=cursor)), 12)
    assert [result.key.seq for result in seen] == list(range(40))


async def test_watch_resumes_after_a_restart_of_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await post(cloud, "door", 1, 2, 3)
        (first,) = await take(cloud.results.Watch(WatchResultsRequest(after_cursor=0)), 1)
    async with running(tmp_path) as cloud:
        await post(cloud, "door", 4)
        rest = await take(cloud.results.Watch(WatchResultsRequest(after_cursor=first.cursor)), 3)
    assert names([first, *rest]) == [("door", seq) for seq in (1, 2, 3, 4)]


async def test_two_watchers_see_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        calls = [cloud.results.Watch(WatchResultsRequest()) for _ in range(2)]
        for call in calls:
            await call.initial_metadata()
        await post(cloud, "door", 1, 2, 3)
        one, other = [await take(call, 3) for call in calls]
        assert cloud.metric("splitcodec_cloud_watchers") == 2
    assert one == other


async def test_a_cursor_from_another_database_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await post(cloud, "door", 1)
        error = await status_of(cloud.results.Watch(WatchResultsRequest(after_cursor=500)))
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert error_name(error) == "CursorOutOfRange"
    assert "start from cursor 0" in error.details()


async def test_a_watcher_whose_results_were_retired_is_told_of_the_gap(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await post(cloud, "yard", 1, 2)
        await post(cloud, "door", 1)
        await cloud.server.retire(max_age_days=0)
        await post(cloud, "yard", 3)
        error = await status_of(cloud.results.Watch(WatchResultsRequest(camera="yard", after_cursor=1)))
        from_oldest = await take(cloud.results.Watch(WatchResultsRequest(after_cursor=0)), 1)
        no_gap = await take(cloud.results.Watch(WatchResultsRequest(camera="yard", after_cursor=2)), 1)
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert names(from_oldest) == names(no_gap) == [("yard", 3)]


async def test_watchers_are_told_when_the_server_stops(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        call = cloud.results.Watch(WatchResultsRequest())
        await call.initial_metadata()
        stopping = asyncio.create_task(cloud.server.stop())
        error = await status_of(call)
        await stopping
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error_name(error) == "ServiceStopping"


class MaskRunner(PlainRunner):
    """Answers every frame with a class map of RUNS runs."""

    def _one(self, parsed: Bitstream) -> TaskOutput:
        runs = tuple(number % 2 for number in range(RUNS))
        answer = SegmentationMask(300, 200, runs, (1,) * RUNS, (ClassShare("cat", 1, 0.5),))
        return TaskOutput("segment", parsed.header, answer, {"decoder": 0.25})


async def test_list_and_watch_leave_outputs_out_when_asked(tmp_path: Path) -> None:
    async with running(tmp_path, MaskRunner()) as cloud:
        for seq in (1, 2, 3):
            reply = await cloud.ingest.Infer(infer_request(seq, task=""), timeout=PATIENCE_S)
            assert len(reply.result.segmentation.run_classes) == RUNS
        whole = await cloud.results.List(ListResultsRequest(page_size=1))
        for newest_first in (False, True):
            request = ListResultsRequest(without_output=True, newest_first=newest_first)
            page = await cloud.results.List(request)
            assert len(page.results) == 3
            assert page.ByteSize() < 2000
        watched = await take(cloud.results.Watch(WatchResultsRequest(after_cursor=0, without_output=True)), 3)
        last = await cloud.results.Get(GetResultRequest(key=FrameKey(device="box", camera="door", seq=3)))
    assert len(whole.results[0].segmentation.run_classes) == RUNS
    assert watched == list(reversed(page.results))
    assert all(one.output_left_out and one.WhichOneof("output") is None for one in watched)
    last.result.ClearField("output")
    last.result.output_left_out = True
    assert watched[2] == last.result

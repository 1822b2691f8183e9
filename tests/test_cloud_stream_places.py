"""FeatureIngest.Stream where frames wait for a place: back-pressure, fairness to single calls, cancelling."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from cloud_helpers import PATIENCE_S, Cloud, infer_request, running, stream_request
from cloud_streams import acks, collect, stored_in_file

from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest


async def two_pending(cloud: Cloud) -> None:
    """Until two frames are pending; every turn is a call to the server."""
    while cloud.metric("splitcodec_cloud_pending_frames") < 2:
        await cloud.prompts.List(ListPromptsRequest())


async def test_the_server_reads_no_more_than_the_frames_in_flight_it_promised(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, stream_in_flight=2) as cloud:
        cloud.runner.gate.clear()
        call = cloud.ingest.Stream((stream_request(seq) for seq in range(1, 31)), timeout=PATIENCE_S)
        await call.read()
        assert await asyncio.to_thread(cloud.runner.started.wait, PATIENCE_S)
        await asyncio.wait_for(two_pending(cloud), PATIENCE_S)
        for _ in range(20):
            await cloud.prompts.List(ListPromptsRequest())
            assert cloud.metric("splitcodec_cloud_pending_frames") == 2
        assert cloud.metric("splitcodec_cloud_ingest_streams") == 1
        cloud.runner.gate.set()
        responses = []
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)
    assert acks(responses)[-1] == ("door", 30)


async def test_streams_wait_for_a_place_where_single_calls_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, max_pending_frames=2) as cloud:
        responses, error = await collect(cloud, [stream_request(seq) for seq in range(1, 31)])
    assert error is None
    assert acks(responses)[-1] == ("door", 30)


async def test_streams_that_wait_for_a_place_do_not_starve_single_calls(tmp_path: Path) -> None:
    limits = {"workers": 1, "max_pending_frames": 4, "stream_in_flight": 16}
    async with running(tmp_path, **limits) as cloud:
        cloud.runner.gate.clear()
        streams = [
            asyncio.create_task(collect(cloud, [stream_request(seq, camera) for seq in range(1, 17)]))
            for camera in ("door", "yard")
        ]
        while cloud.metric("splitcodec_cloud_pending_frames") < 32:
            await cloud.prompts.List(ListPromptsRequest())
        single = cloud.ingest.Infer(infer_request(1, "gate"), timeout=PATIENCE_S)
        while cloud.metric("splitcodec_cloud_pending_frames") < 33:
            await cloud.prompts.List(ListPromptsRequest())
            assert not single.done(), await single.details()
        cloud.runner.gate.set()
        assert (await single).result.key.camera == "gate"
        assert [error for _, error in await asyncio.gather(*streams)] == [None, None]


async def test_a_cancelled_stream_leaves_nothing_in_work(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as cloud:
        cloud.runner.gate.clear()
        call = cloud.ingest.Stream((stream_request(seq) for seq in range(1, 6)), timeout=PATIENCE_S)
        await call.read()
        assert await asyncio.to_thread(cloud.runner.started.wait, PATIENCE_S)
        call.cancel()
        while cloud.metric("splitcodec_cloud_ingest_streams") > 0:
            await cloud.prompts.List(ListPromptsRequest())
        cloud.runner.gate.set()
        responses, error = await collect(cloud, [stream_request(seq) for seq in range(1, 6)])
        assert cloud.metric("splitcodec_cloud_pending_frames") == 0
        stored = stored_in_file(tmp_path)
    assert error is None
    assert acks(responses)[-1] == ("door", 5)
    assert stored == [("door", seq) for seq in range(1, 6)]

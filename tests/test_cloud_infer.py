"""FeatureIngest.Infer over a real server: answers, repeats, typed refusals, deadlines, limits, batches."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, Cloud, PlainRunner, bitstream, error_name, infer_request, running
from waiting import until

from splitcodec.wire.v1.ingest_pb2 import InferRequest
from splitcodec.wire.v1.results_pb2 import FrameKey, GetResultRequest, ListResultsRequest


async def pending(cloud: Cloud, frames: int) -> None:
    """Until so many frames wait or are in work."""
    await until(lambda: cloud.metric("splitcodec_cloud_pending_frames") == frames)


async def in_work(runner: PlainRunner) -> None:
    """Until a batch has reached the runner."""
    assert await asyncio.to_thread(runner.started.wait, PATIENCE_S)


async def test_a_frame_is_answered_and_its_result_can_be_read(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        answer = await cloud.ingest.Infer(infer_request(3, text="cat"), timeout=PATIENCE_S)
        read = await cloud.results.Get(GetResultRequest(key=FrameKey(device="box", camera="door", seq=3)))
    result = answer.result
    assert not answer.repeated_frame
    assert [found.label for found in result.detections.items] == ["cat"]
    assert result.detections.items[0].box.y2 == 4.0
    assert (result.task, result.rate_fixed, result.source_width, result.network_height) == (
        "detect",
        256,
        640,
        32,
    )
    assert result.num_bytes == len(bitstream("cat"))
    assert result.received_time_unix_nanos <= result.finished_time_unix_nanos
    assert set(result.stage_seconds) == {"decoder", "queue"}
    assert result.cursor == 1
    assert read.result == result


async def test_a_repeated_frame_is_answered_from_the_store_and_kept_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        first = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        again = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        listed = await cloud.results.List(ListResultsRequest())
        assert cloud.metric("splitcodec_cloud_frames_total", task="detect", outcome="repeated") == 1
    assert again.repeated_frame
    assert again.result == first.result
    assert list(listed.results) == [first.result]
    assert cloud.runner.batches == [["door-1"]]


async def test_results_survive_a_restart_and_so_does_idempotency(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        first = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
    async with running(tmp_path) as cloud:
        again = await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        after = await cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
    assert again.repeated_frame
    assert again.result == first.result
    assert after.result.cursor > first.result.cursor


@pytest.mark.parametrize(
    ("request_", "code", "error", "words"),
    [
        (
            infer_request(1, bitstream=bitstream("x", prompt=b"stranger")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "UnknownPrompt",
            "publish it here",
        ),
        (
            infer_request(1, bitstream=b"not a bitstream"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "CorruptBitstream",
            "",
        ),
        (
            infer_request(1, bitstream=bytes(4 * 2**20 + 1)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "BitstreamTooLarge",
            "limit",
        ),
        (infer_request(1, text="forged"), grpc.StatusCode.DATA_LOSS, "SigmaIndexMismatch", "report it"),
        (infer_request(1, task="sing"), grpc.StatusCode.NOT_FOUND, "UnknownTask", "detect"),
        (
            infer_request(1, capture_time_unix_nanos=0),
            grpc.StatusCode.INVALID_ARGUMENT,
            "InvalidRequest",
            "above 0",
        ),
        (infer_request(1, camera="a b"), grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", "camera"),
        (
            infer_request(2**63, capture_time_unix_nanos=1),
            grpc.StatusCode.INVALID_ARGUMENT,
            "InvalidRequest",
            "seq",
        ),
        (InferRequest(), grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", "above 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_refusals_are_typed_and_name_the_remedy(
    tmp_path: Path, request_: InferRequest, code: grpc.StatusCode, error: str, words: str
) -> None:
    async with running(tmp_path) as cloud:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(request_, timeout=PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_rejected_total", reason=error) == 1
        assert not (await cloud.results.List(ListResultsRequest())).results
    assert caught.value.code() is code
    assert error_name(caught.value) == error
    assert words in caught.value.details()


async def test_a_second_frame_under_the_same_key_is_a_conflict(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(1, capture_time_unix_nanos=5), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert error_name(caught.value) == "FrameConflict"


async def test_an_internal_error_tells_the_caller_nothing_and_the_log_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as cloud:
        with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(1, text="fatal"), timeout=PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="internal") == 1
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    assert error_name(caught.value) == ""
    assert "secret detail of a graph" in caplog.text


async def test_a_message_above_the_limit_never_reaches_the_service(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        request = infer_request(1, bitstream=bytes(6 * 2**20))
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{cloud.server.grpc_port}", options=(("grpc.max_send_message_length", -1),)
        ) as channel:
            infer = channel.unary_unary(
                "/splitcodec.wire.v1.FeatureIngest/Infer", request_serializer=InferRequest.SerializeToString
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(request, timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_work_that_nobody_waits_for_any_more_is_dropped(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as cloud:
        cloud.runner.gate.clear()
        busy = cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        await in_work(cloud.runner)
        late = cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
        await pending(cloud, 2)
        late.cancel()
        await pending(cloud, 1)
        cloud.runner.gate.set()
        await busy
        await cloud.ingest.Infer(infer_request(3), timeout=PATIENCE_S)
    assert cloud.runner.batches == [["door-1"], ["door-3"]]


async def test_a_frame_that_is_not_answered_by_its_deadline_is_late(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as cloud:
        cloud.runner.gate.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(1), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, max_pending_frames=1) as cloud:
        cloud.runner.gate.clear()
        busy = cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        await in_work(cloud.runner)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_pending_frames") == 1
        cloud.runner.gate.set()
        await busy
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_name(caught.value) == "QueueFull"
    assert "the limit is 1" in caught.value.details()


async def test_waiting_frames_of_several_cameras_share_a_batch_and_a_bad_one_harms_itself_alone(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, workers=1, batch_window_s=0) as cloud:
        cloud.runner.gate.clear()
        first = cloud.ingest.Infer(infer_request(1, "gate"), timeout=PATIENCE_S)
        await in_work(cloud.runner)
        others = [cloud.ingest.Infer(infer_request(1, name), timeout=PATIENCE_S) for name in ("yard", "hall")]
        bad = cloud.ingest.Infer(infer_request(1, "roof", "forged"), timeout=PATIENCE_S)
        await pending(cloud, 4)
        cloud.runner.gate.set()
        labels = [(await call).result.detections.items[0].label for call in (first, *others)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bad
    assert labels == ["gate-1", "yard-1", "hall-1"]
    assert sorted(cloud.runner.batches[1]) == ["forged", "hall-1", "yard-1"]
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


async def test_concurrent_frames_of_one_camera_are_committed_in_the_order_they_came(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1, batch_window_s=0) as cloud:
        cloud.runner.gate.clear()
        calls = []
        for seq in range(5):
            # Two network sizes, so that two batches hold every other frame each.
            data = bitstream(str(seq), network_side=32 + 32 * (seq % 2))
            calls.append(cloud.ingest.Infer(infer_request(seq, bitstream=data), timeout=PATIENCE_S))
            await pending(cloud, seq + 1)
        cloud.runner.gate.set()
        answers = [await call for call in calls]
    assert [answer.result.cursor for answer in answers] == [1, 2, 3, 4, 5]
    assert [len(batch) for batch in cloud.runner.batches] == [1, 2, 2]

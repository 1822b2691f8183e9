"""FeatureIngest.Stream over a real server: cumulative acks after the commit, resends, refusals, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, PlainRunner, bitstream, error_name, frame, running, stream_request
from cloud_streams import acks, collect, labels, stored_in_file

from cloud.runner import TaskOutput
from splitcodec.errors import SplitcodecError
from splitcodec.wire.integrity import frame_crc, is_intact
from splitcodec.wire.v1.ingest_pb2 import StreamRequest


async def test_every_frame_gets_its_result_and_the_last_ack_covers_all(tmp_path: Path) -> None:
    requests = [stream_request(seq, camera) for seq in range(1, 21) for camera in ("door", "yard")]
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, requests)
        stored = stored_in_file(tmp_path)
    assert error is None
    assert responses[0].opened.max_in_flight == 16
    assert labels(responses) == [
        f"{request.frame.key.camera}-{request.frame.key.seq}" for request in requests
    ]
    assert [seq for camera, seq in stored if camera == "door"] == list(range(1, 21))
    for camera in ("door", "yard"):
        own = [seq for name, seq in acks(responses) if name == camera]
        assert own == sorted(own)
        assert own[-1] == 20


async def test_an_ack_is_sent_only_after_the_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        call = cloud.ingest.Stream(timeout=PATIENCE_S)
        await call.read()
        for seq in range(1, 6):
            await call.write(stream_request(seq))
            response = await call.read()
            assert acks([response]) == [("door", seq)]
            assert stored_in_file(tmp_path)[-1] == ("door", seq)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_frames_that_finish_out_of_order_are_committed_and_acked_in_order(tmp_path: Path) -> None:
    # Frames of another network size form another batch, which the second worker finishes first.
    slow = PlainRunner()
    sizes = {1: 64, 2: 32, 3: 32}
    requests = [
        StreamRequest(frame=frame(seq, bitstream=bitstream(str(seq), network_side=side)))
        for seq, side in sizes.items()
    ]
    quick_done = asyncio.Event()
    loop = asyncio.get_running_loop()
    run = slow.run

    def run_small_first(bitstreams):
        if bitstreams[0] == requests[0].frame.bitstream:
            asyncio.run_coroutine_threadsafe(quick_done.wait(), loop).result(PATIENCE_S)
        outputs = run(bitstreams)
        if bitstreams[0] != requests[0].frame.bitstream:
            loop.call_soon_threadsafe(quick_done.set)
        return outputs

    slow.run = run_small_first
    async with running(tmp_path, slow, workers=2) as cloud:
        responses, error = await collect(cloud, requests)
        stored = stored_in_file(tmp_path)
    assert error is None
    assert slow.batches[0] != ["1"]
    assert stored == [("door", 1), ("door", 2), ("door", 3)]
    assert acks(responses)[-1] == ("door", 3)
    assert labels(responses) == ["1", "2", "3"]


async def test_a_resent_stream_is_answered_from_the_store(tmp_path: Path) -> None:
    requests = [stream_request(seq) for seq in range(1, 6)]
    async with running(tmp_path) as cloud:
        first, _ = await collect(cloud, requests)
        again, error = await collect(cloud, [*requests, stream_request(6)])
        stored = stored_in_file(tmp_path)
    assert error is None
    assert [r for response in again for r in response.results][:5] == [
        r for response in first for r in response.results
    ]
    assert acks(again)[-1] == ("door", 6)
    assert stored == [("door", seq) for seq in range(1, 7)]


async def test_a_frame_sent_twice_at_once_is_stored_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, [stream_request(1), stream_request(1), stream_request(2)])
        stored = stored_in_file(tmp_path)
    assert error is None
    assert labels(responses) == ["door-1", "door-1", "door-2"]
    assert stored == [("door", 1), ("door", 2)]


async def test_a_hopeless_frame_is_rejected_and_acked_and_the_stream_goes_on(tmp_path: Path) -> None:
    requests = [stream_request(1), stream_request(2, text="forged"), stream_request(3)]
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, requests)
        stored = stored_in_file(tmp_path)
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="SigmaIndexMismatch") == 1
    (rejection,) = [rejection for response in responses for rejection in response.rejections]
    assert error is None
    assert (rejection.key.seq, rejection.error, rejection.settled) == (2, "SigmaIndexMismatch", True)
    assert rejection.code == grpc.StatusCode.DATA_LOSS.value[0]
    assert stored == [("door", 1), ("door", 3)]
    assert acks(responses)[-1] == ("door", 3)


@pytest.mark.parametrize(
    "third",
    [StreamRequest(frame=frame(4), index=3), StreamRequest(frame=frame(3)), StreamRequest(index=2)],
    ids=["one-before-it-vanished", "its-index-fell-out", "its-frame-fell-out"],
)
async def test_nothing_is_acknowledged_for_a_message_that_vanished_on_the_way(
    tmp_path: Path, third: StreamRequest
) -> None:
    whole = [StreamRequest(frame=frame(seq), index=seq - 1) for seq in range(1, 6)]
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, [*whole[:2], third, *whole[3:]])
        stored = stored_in_file(tmp_path)
        again, no_error = await collect(cloud, whole)
        assert [seq for _, seq in stored_in_file(tmp_path)] == [1, 2, 3, 4, 5]
    if third.HasField("frame") and not third.HasField("index"):  # nothing is lost with an index
        assert (error, acks(responses)[-1]) == (None, ("door", 5))
    else:
        assert error is not None
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_name(error) == "FrameMissing"
        assert "send everything after the last ack" in error.details()
        assert acks(responses)[-1] == stored[-1] == ("door", 2)
        assert not [rejection for response in responses for rejection in response.rejections]
    assert no_error is None
    assert acks(again)[-1] == ("door", 5)


@pytest.mark.parametrize(
    ("bad", "code", "name", "message"),
    [
        (
            StreamRequest(frame=frame(2, bitstream=bitstream("x", prompt=b"stranger"))),
            grpc.StatusCode.FAILED_PRECONDITION,
            "UnknownPrompt",
            "publish it here",
        ),
        (stream_request(2, text="fatal"), grpc.StatusCode.INTERNAL, "", "internal error"),
        (
            StreamRequest(frame=frame(2, bitstream=bitstream("x")[:-1])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "CorruptBitstream",
            "",
        ),
    ],
    ids=["unknown-prompt", "internal", "corrupt"],
)
async def test_a_frame_that_may_succeed_later_ends_the_stream_unsettled(
    tmp_path: Path, bad: StreamRequest, code: grpc.StatusCode, name: str, message: str
) -> None:
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, [stream_request(1), bad, stream_request(3)])
        stored = stored_in_file(tmp_path)
        retried, retry_error = await collect(cloud, [stream_request(2), stream_request(3)])
    (rejection,) = [rejection for response in responses for rejection in response.rejections]
    assert error is not None
    assert error.code() is code
    assert error_name(error) == name
    assert message in error.details()
    assert (rejection.key.seq, rejection.error, rejection.settled) == (2, name, False)
    assert stored == [("door", 1)]
    assert acks(responses) == [("door", 1)]
    assert retry_error is None
    assert acks(retried)[-1] == ("door", 3)


class _Panic(BaseException):
    """What an extension written in Rust raises when it panics: no Exception."""


class PanickingRunner(PlainRunner):
    """Panics on a frame with the text `panic`."""

    def run(self, bitstreams: Sequence[bytes]) -> list[TaskOutput | SplitcodecError]:
        outputs = super().run(bitstreams)
        if "panic" in self.batches[-1]:
            raise _Panic("index out of bounds")
        return outputs


async def test_a_stream_whose_frame_panics_ends_with_an_error_and_the_next_one_works(tmp_path: Path) -> None:
    async with running(tmp_path, PanickingRunner()) as cloud:
        requests = [stream_request(1), stream_request(2, text="panic"), stream_request(3)]
        responses, error = await collect(cloud, requests)
        assert acks(responses) == [("door", 1)]
        assert error is not None
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "out of bounds" not in str(error.details())
        responses, error = await collect(cloud, [stream_request(3)])
        assert (acks(responses), error) == ([("door", 3)], None)


async def test_a_stopping_server_settles_what_is_in_flight_and_says_unavailable(tmp_path: Path) -> None:
    async with running(tmp_path, workers=1) as cloud:
        cloud.runner.gate.clear()
        call = cloud.ingest.Stream(timeout=PATIENCE_S)
        await call.read()
        await call.write(stream_request(1))
        assert await asyncio.to_thread(cloud.runner.started.wait, PATIENCE_S)
        stopping = asyncio.create_task(cloud.server.stop())
        cloud.runner.gate.set()
        response = await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        await stopping
        assert stored_in_file(tmp_path) == [("door", 1)]
    assert acks([response]) == [("door", 1)]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_name(caught.value) == "ServiceStopping"


async def test_a_frame_that_was_renamed_on_the_way_is_not_stored(tmp_path: Path) -> None:
    sound, renamed = stream_request(1), stream_request(2)
    for request in (sound, renamed):
        request.frame.crc32c = frame_crc(request.frame)
    renamed.frame.key.seq = 1 << 40
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, [sound, renamed])
        stored = stored_in_file(tmp_path)
    assert stored == [("door", 1)]
    assert error is not None
    assert error_name(error) == "CorruptBitstream"
    assert all(is_intact(response) for response in responses)
    assert responses[1].HasField("crc32c")

"""Frames that are settled without a result: retired since, or too large; and groups of large results."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import grpc
import pytest
from cloud_helpers import (
    PATIENCE_S,
    PlainRunner,
    bitstream,
    error_name,
    frame,
    infer_request,
    running,
    stream_request,
)
from cloud_streams import acks, collect, labels, stored_in_file
from test_cloud_store import ANY_SIZE, FUTURE, key, result, retire_all, seqs

from cloud.ingest import MAX_RESPONSE_BYTES
from cloud.store import MAX_RESULT_BYTES, Committed, ResultStore
from splitcodec.errors import ResultRetired, ResultTooLarge
from splitcodec.wire.integrity import is_intact
from splitcodec.wire.v1.ingest_pb2 import InferRequest, StreamRequest
from splitcodec.wire.v1.results_pb2 import ListResultsRequest

LARGE = 2**20  # characters of a label


@pytest.fixture
def store(tmp_path: Path):
    opened = ResultStore(tmp_path)
    yield opened
    opened.close()


def test_a_frame_whose_result_was_retired_is_not_stored_again(store: ResultStore) -> None:
    store.put([result(4), result(2), result(1, "yard")])
    retire_all(store, FUTURE, ANY_SIZE)
    again, between, other, fresh = store.put([result(4), result(3), result(2, "yard"), result(5)])
    for refused in (again, between):
        assert isinstance(refused, ResultRetired)
        assert "up to seq 4" in str(refused)
    assert isinstance(other, Committed)
    assert isinstance(fresh, Committed)
    assert seqs(store) == [2, 5]
    with pytest.raises(ResultRetired, match="do not send it again"):
        store.look_up(key(4))
    assert store.look_up(key(6)) is None
    assert store.look_up(key(5)) == fresh.result


def test_the_mark_never_falls_and_outlives_everything_that_is_stored(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put([result(3), result(3, "yard")])
    store._writer.execute("INSERT INTO retired VALUES ('box', 'door', 0, 9)")
    retire_all(store, FUTURE, ANY_SIZE)
    store.put([result(4, "yard")])
    retire_all(store, 0, max_bytes=0)
    store.close()
    store = ResultStore(tmp_path)
    try:
        with pytest.raises(ResultRetired, match="up to seq 9"):
            store.look_up(key(9))
    finally:
        store.close()


def test_a_result_still_kept_below_the_mark_is_answered_from_the_store(store: ResultStore) -> None:
    (kept,) = store.put([result(1)])
    store._writer.execute("INSERT INTO retired VALUES ('box', 'door', 0, 5)")
    assert isinstance(kept, Committed)
    assert store.look_up(key(1)) == kept.result
    (again,) = store.put([result(1)])
    assert isinstance(again, Committed)
    assert again.repeated


async def test_a_retired_frame_that_comes_again_is_settled_without_a_graph_run(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await collect(cloud, [stream_request(1), stream_request(2)])
        assert await cloud.server.retire(max_age_days=0) == 2
        ran = list(cloud.runner.batches)
        responses, error = await collect(cloud, [stream_request(1), stream_request(2)])
        assert cloud.runner.batches == ran
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="ResultRetired") == 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
        assert cloud.runner.batches == ran
        assert not (await cloud.results.List(ListResultsRequest())).results
        later, _ = await collect(cloud, [stream_request(3)])
    rejections = [rejection for response in responses for rejection in response.rejections]
    assert error is None
    assert [(one.key.seq, one.error, one.settled) for one in rejections] == [
        (1, "ResultRetired", True),
        (2, "ResultRetired", True),
    ]
    assert acks(responses)[-1] == ("door", 2)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert error_name(caught.value) == "ResultRetired"
    assert acks(later) == [("door", 3)]


async def test_a_frame_that_is_retired_while_its_twin_is_in_work_is_stored_once(tmp_path: Path) -> None:
    runner = PlainRunner()
    async with running(tmp_path, runner, workers=2) as cloud:
        runner.gate.clear()
        twin = cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        assert await asyncio.to_thread(runner.started.wait, PATIENCE_S)
        await cloud.server._results.commit(
            [result(1, captured=infer_request(1).frame.capture_time_unix_nanos)]
        )
        assert await cloud.server.retire(max_age_days=0) == 1
        runner.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await twin
        assert stored_in_file(tmp_path) == []
    assert error_name(caught.value) == "ResultRetired"


class _FirstIsLast(PlainRunner):
    """The frame with the small network is answered once `count` others have been."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._others = count
        self._rest = threading.Event()

    def run(self, bitstreams):
        outputs = super().run(bitstreams)
        if outputs[0].header.network_height == 32:
            assert self._rest.wait(PATIENCE_S)
        else:
            self._others -= len(bitstreams)
            if self._others <= 0:
                self._rest.set()
        return outputs


async def test_a_group_of_large_results_is_sent_in_parts_that_each_fit_and_ack_their_own(
    tmp_path: Path,
) -> None:
    texts = {seq: f"{seq}-".ljust(LARGE, "x") for seq in range(1, 10)}
    requests = [stream_request(1, text=texts[1])]
    requests += [
        StreamRequest(frame=frame(seq, bitstream=bitstream(texts[seq], network_side=64)))
        for seq in range(2, 10)
    ]
    async with running(tmp_path, _FirstIsLast(8), workers=2) as cloud:
        responses, error = await collect(cloud, requests)
        again, second_error = await collect(cloud, requests)
    assert error is None
    assert second_error is None
    for answers in (responses, again):
        assert labels(answers) == list(texts.values())
        assert all(is_intact(response) for response in answers)
        assert max(response.ByteSize() for response in answers) < 4 * 2**20
        for response in answers[1:]:
            assert acks([response]) == [("door", response.results[-1].key.seq)]
    assert max(len(response.results) for response in responses) == MAX_RESPONSE_BYTES // LARGE


async def test_a_result_above_the_limit_is_refused_for_good_and_the_stream_goes_on(tmp_path: Path) -> None:
    large = "x" * MAX_RESULT_BYTES
    requests = [stream_request(1), stream_request(2, text=large), stream_request(3)]
    async with running(tmp_path) as cloud:
        responses, error = await collect(cloud, requests)
        stored = stored_in_file(tmp_path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(infer_request(4, text=large), timeout=PATIENCE_S)
    (rejection,) = [rejection for response in responses for rejection in response.rejections]
    assert error is None
    assert (rejection.key.seq, rejection.error, rejection.settled) == (2, "ResultTooLarge", True)
    assert f"one may have {MAX_RESULT_BYTES}" in rejection.message
    assert stored == [("door", 1), ("door", 3)]
    assert acks(responses)[-1] == ("door", 3)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_name(caught.value) == "ResultTooLarge"


def test_a_result_at_the_limit_is_kept_and_one_byte_more_is_not(store: ResultStore) -> None:
    fitting = result(1, padding=MAX_RESULT_BYTES - 200)
    fitting.detections.items[0].label += "x" * (MAX_RESULT_BYTES - fitting.ByteSize())
    assert fitting.ByteSize() == MAX_RESULT_BYTES
    larger = result(2)
    larger.CopyFrom(fitting)
    larger.key.seq = 2
    larger.detections.items[0].label += "x"
    kept, refused = store.put([fitting, larger])
    assert isinstance(kept, Committed)
    assert isinstance(refused, ResultTooLarge)
    assert store.look_up(key(1)) == kept.result
    assert seqs(store) == [1]


@pytest.mark.parametrize(
    ("request_", "settled"),
    [
        (infer_request(1, task="sing"), True),
        (infer_request(1, text="forged"), True),
        (infer_request(2, capture_time_unix_nanos=5), True),
        (infer_request(1, bitstream=b"not a bitstream"), False),
        (infer_request(1, bitstream=bitstream("x", prompt=b"stranger")), False),
    ],
    ids=["unknown task", "forged", "conflict", "corrupt", "unknown prompt"],
)
async def test_a_single_call_says_whether_its_bytes_would_be_refused_for_ever(
    tmp_path: Path, request_: InferRequest, settled: bool
) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(2), timeout=PATIENCE_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(request_, timeout=PATIENCE_S)
    assert dict(caught.value.trailing_metadata()).get("splitcodec-settled") == ("true" if settled else None)

"""Calls at once are bounded over all connections, health aside; a refusal names the limit and the setting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, Cloud, error_name, infer_request, running
from grpc_health.v1 import health_pb2, health_pb2_grpc
from waiting import until

from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.results_pb2 import WatchResultsRequest
from splitcodec.wire.v1.results_pb2_grpc import ResultsStub

INFER = "/splitcodec.wire.v1.FeatureIngest/Infer"


@asynccontextmanager
async def channel_to(cloud: Cloud) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    options = (*client_options(), ("grpc.use_local_subchannel_pool", 1))
    target = f"127.0.0.1:{cloud.server.grpc_port}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield channel


async def infers(cloud: Cloud, seq: int) -> bool:
    """Whether a call is let in now."""
    async with channel_to(cloud) as channel:
        try:
            await FeatureIngestStub(channel).Infer(infer_request(seq), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            if error_name(error) != "TooManyRequests":
                raise
            return False
        return True


async def test_calls_above_the_limit_are_refused_whatever_connection_they_come_on(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(running(tmp_path, max_calls=2))
        for _ in range(2):
            channel = await stack.enter_async_context(channel_to(cloud))
            watch = ResultsStub(channel).Watch(WatchResultsRequest())
            await watch.wait_for_connection()
        third = await stack.enter_async_context(channel_to(cloud))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FeatureIngestStub(third).Infer(infer_request(1), timeout=PATIENCE_S)
        assert cloud.metric("splitcodec_cloud_rejected_total", reason="TooManyRequests") == 1
        assert not cloud.runner.batches
        health = health_pb2_grpc.HealthStub(third)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        await until(lambda: infers(cloud, 1))
        assert await infers(cloud, 2)  # a call that is over makes room
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_name(caught.value) == "TooManyRequests"
    assert "the limit is 2" in caught.value.details()
    assert "raise max_calls" in caught.value.details()


async def test_a_call_counts_before_its_request_has_come(tmp_path: Path) -> None:
    async with running(tmp_path, max_calls=1) as cloud, channel_to(cloud) as channel:
        # Infer, called as a stream that sends nothing: its headers come, its one request does not.
        silent = channel.stream_unary(INFER, request_serializer=InferRequest.SerializeToString)()
        await silent.wait_for_connection()
        await until(lambda: _refused(cloud))
        silent.cancel()
        await until(lambda: infers(cloud, 1))


async def _refused(cloud: Cloud) -> bool:
    return not await infers(cloud, 7)

"""The edge's gRPC client: deadline, reconnection, TLS files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from edge_rig import fake_cloud, one_cat, tiny_codec

from edge.settings import EdgeSettings
from edge.uplink import GrpcUplink, OutgoingFrame
from splitcodec.codec import EncodedFrame
from splitcodec.errors import CloudUnavailable, SettingsError
from splitcodec.tasks import Box, Detection


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedFrame:
    import numpy as np

    codec = tiny_codec(tmp_path_factory.mktemp("pack"))
    with codec.prompts.lease("detect") as prompt:
        return codec.encoder.compress(np.full((64, 96, 3), 114, np.uint8), prompt, 0.0, (64, 96))


def outgoing(encoded: EncodedFrame, seq: int = 5) -> OutgoingFrame:
    return OutgoingFrame("box", "gate", seq, "detect", 123, encoded.data)


async def test_the_answer_is_typed(encoded: EncodedFrame) -> None:
    async with fake_cloud() as cloud:
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        answer = await uplink.infer(outgoing(encoded))
        await uplink.close()
    assert answer.detections == (Detection("cat", 0, 0.75, Box(20, 10, 120, 90)),)
    assert answer.prompt_digest.hex() == encoded.prompt_digest[:16]
    assert answer.stage_seconds == {"decoder": 0.004, "tail": 0.006}


async def test_the_call_carries_its_deadline(encoded: EncodedFrame) -> None:
    left: list[float] = []

    async def look(frame, context: grpc.aio.ServicerContext):  # type: ignore[no-untyped-def]
        left.append(context.time_remaining())
        return one_cat(frame)

    async with fake_cloud() as cloud:
        cloud.answer = look
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target, deadline_s=30))
        await uplink.infer(outgoing(encoded))
        await uplink.close()
    assert 20 < left[0] < 40  # gRPC rounds the timeout up on its way; without one it would be endless


async def test_frames_flow_again_once_the_cloud_is_back(encoded: EncodedFrame) -> None:
    async with fake_cloud() as cloud:
        port = int(cloud.target.rpartition(":")[2])
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        await uplink.infer(outgoing(encoded))
    with pytest.raises(CloudUnavailable, match="cannot be reached"):
        await uplink.infer(outgoing(encoded))

    async def until_it_works() -> None:
        while True:
            try:
                await uplink.infer(outgoing(encoded))
            except CloudUnavailable:
                await uplink._channel.wait_for_state_change(grpc.ChannelConnectivity.TRANSIENT_FAILURE)
            else:
                return

    async with fake_cloud(port):
        await asyncio.wait_for(until_it_works(), 60)
        assert uplink.state() == "ready"
        await uplink.close()


async def test_a_missing_certificate_is_a_settings_error(tmp_path: Path) -> None:
    settings = EdgeSettings(cloud_target="cloud.example:1", cloud_ca=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"ca\.pem cannot be read"):
        GrpcUplink(settings)

"""The edge's gRPC client: what goes up, what comes down, how a stream ends, TLS files."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import numpy as np
import pytest
from edge_rig import FakeCloud, Refusal, fake_cloud, one_cat, tiny_codec

from edge.settings import EdgeSettings
from edge.uplink import FrameKey, GrpcUplink, OutgoingFrame
from splitcodec.codec import EncodedFrame
from splitcodec.errors import CloudUnavailable, SettingsError
from splitcodec.tasks import Box, Detection, Detections
from splitcodec.wire.integrity import is_intact, response_crc


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedFrame:
    codec = tiny_codec(tmp_path_factory.mktemp("pack"))
    with codec.prompts.lease("detect") as prompt:
        return codec.encoder.compress(np.full((64, 96, 3), 114, np.uint8), prompt, 0.0, (64, 96))


def outgoing(encoded: EncodedFrame, seq: int = 5) -> OutgoingFrame:
    return OutgoingFrame("box", "gate", seq, "detect", 123, encoded.data)


async def test_a_frame_goes_up_and_its_answer_and_ack_come_down(encoded: EncodedFrame) -> None:
    async with fake_cloud() as cloud:
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream() as stream:
            assert stream.max_in_flight == 16
            await stream.send(outgoing(encoded))
            reply = await stream.receive()
            assert uplink.state() == "ready"
        await uplink.close()
    key = FrameKey("box", "gate", 5)
    (answer,) = reply.answers
    assert (answer.key, reply.acks, reply.refusals) == (key, (key,), ())
    assert answer.answer == Detections((Detection("cat", 0, 0.75, Box(20, 10, 120, 90)),))
    assert answer.prompt_digest.hex() == encoded.prompt_digest[:16]
    assert answer.stage_seconds == {"decoder": 0.004, "tail": 0.006}
    assert cloud.frames[0].bitstream == encoded.data
    assert cloud.frames[0].HasField("crc32c")
    assert is_intact(cloud.frames[0])
    assert cloud.frames[0].capture_time_unix_nanos == 123


@pytest.mark.parametrize(
    ("code", "settled", "curable", "passing"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, True, False, False),
        (grpc.StatusCode.FAILED_PRECONDITION, False, True, False),
        (grpc.StatusCode.PERMISSION_DENIED, False, True, False),  # a token for another device
        (grpc.StatusCode.RESOURCE_EXHAUSTED, False, False, True),
        (grpc.StatusCode.INTERNAL, False, False, False),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            True,
            False,
            False,
        ),  # settled wins over the code
        (grpc.StatusCode.PERMISSION_DENIED, True, False, False),
    ],
)
async def test_refusals_say_whether_to_try_again(
    encoded: EncodedFrame, code: grpc.StatusCode, settled: bool, curable: bool, passing: bool
) -> None:
    async def refuse(*_: object) -> None:
        raise Refusal(code, "Why", "because", settled=settled)

    async with fake_cloud() as cloud:
        cloud.answer = refuse
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream() as stream:
            await stream.send(outgoing(encoded))
            reply = await stream.receive()
            if not settled:
                with pytest.raises(CloudUnavailable, match=code.name):
                    await stream.receive()
        await uplink.close()
    (refused,) = reply.refusals
    assert (refused.settled, refused.curable, refused.passing) == (settled, curable, passing)
    assert (refused.error, refused.message) == ("Why", "because")
    assert bool(reply.acks) == settled


@pytest.mark.parametrize("settled", [True, False])
async def test_a_long_refusal_ends_at_a_word_and_keeps_its_remedy(
    encoded: EncodedFrame, settled: bool
) -> None:
    async def refuse(*_: object) -> None:
        text = "this cloud holds " + "0011223344556677, " * 50 + "and no more; deploy that pack here"
        raise Refusal(grpc.StatusCode.INTERNAL, "Why", text, settled=settled)

    async with fake_cloud() as cloud:
        cloud.answer = refuse
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream() as stream:
            await stream.send(outgoing(encoded))
            texts = [one.message for one in (await stream.receive()).refusals]
            if not settled:
                with pytest.raises(CloudUnavailable) as caught:
                    await stream.receive()
                texts.append(str(caught.value))
        await uplink.close()
    for text in texts:
        assert text.endswith("0011223344556677 ...; deploy that pack here")


async def test_an_output_of_an_unknown_kind_is_settled_without_an_answer(encoded: EncodedFrame) -> None:
    async def nothing(frame, _):  # type: ignore[no-untyped-def]
        response = one_cat(frame)
        response.result.ClearField("output")
        return response

    async with fake_cloud() as cloud:
        cloud.answer = nothing
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream() as stream:
            await stream.send(outgoing(encoded))
            reply = await stream.receive()
        await uplink.close()
    assert (reply.answers, reply.acks) == ((), (FrameKey("box", "gate", 5),))


async def test_an_acknowledgement_that_was_damaged_on_the_way_is_not_believed(encoded: EncodedFrame) -> None:
    class Damaging(FakeCloud):
        async def Stream(self, requests, context):  # type: ignore[no-untyped-def]
            async for response in super().Stream(requests, context):
                response.crc32c = response_crc(response)
                for ack in response.acks:
                    ack.seq += 1
                yield response

    async with fake_cloud(cloud=Damaging()) as cloud:
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream() as stream:
            await stream.send(outgoing(encoded))
            with pytest.raises(CloudUnavailable, match="damaged on the way"):
                await stream.receive()
        await uplink.close()


async def test_streams_open_again_once_the_cloud_is_back(encoded: EncodedFrame) -> None:
    async with fake_cloud() as cloud:
        port = int(cloud.target.rpartition(":")[2])
        uplink = GrpcUplink(EdgeSettings(cloud_target=cloud.target))
        async with uplink.stream():
            pass
    with pytest.raises(CloudUnavailable, match="cannot be reached"):
        async with uplink.stream():
            pass

    async def until_it_works() -> None:
        while True:
            try:
                async with uplink.stream() as stream:
                    await stream.send(outgoing(encoded))
                    assert (await stream.receive()).acks
                    return
            except CloudUnavailable:
                async with uplink.link.channel() as channel:
                    await channel.wait_for_state_change(grpc.ChannelConnectivity.TRANSIENT_FAILURE)

    async with fake_cloud(port):
        await asyncio.wait_for(until_it_works(), 60)
        await uplink.close()


async def test_a_cloud_that_opens_no_stream_in_time_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        uplink = GrpcUplink(EdgeSettings(cloud_target=target, deadline_s=0.1))
        with pytest.raises(CloudUnavailable, match=r"0\.1 s"):
            async with uplink.stream():
                pass
        await uplink.close()


async def test_a_missing_certificate_is_a_settings_error(tmp_path: Path) -> None:
    settings = EdgeSettings(cloud_target="cloud.example:1", cloud_ca=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"ca\.pem cannot be read"):
        GrpcUplink(settings)

"""What a client may say with POST /v1/frames: how long it waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from edge_rig import edge_rig, one_cat, tiny_codec

from edge.codec import Codec
from splitcodec.wire.v1 import ingest_pb2


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


async def never(frame: ingest_pb2.Frame, _: grpc.aio.ServicerContext) -> ingest_pb2.InferResponse:
    """A cloud that owes its answer for ever."""
    await asyncio.Event().wait()
    return one_cat(frame)


@pytest.mark.parametrize("wait", ["0", "0.0", "false", "0.001"])
async def test_who_does_not_wait_gets_202_though_the_cloud_would_answer(
    codec: Codec, tmp_path: Path, wait: str
) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        rig.cloud.answer = never
        response = await rig.post(wait=wait)
        assert (response.status_code, response.json()["state"]) == (202, "spooled")


@pytest.mark.parametrize("wait", ["60", "1", "1.5", "true", None])
async def test_who_waits_gets_the_result(codec: Codec, tmp_path: Path, wait: str | None) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        response = await rig.post(**({} if wait is None else {"wait": wait}))
        assert (response.status_code, response.json()["state"]) == (200, "answered")


@pytest.mark.parametrize("wait", ["-1", "60.1", "nan", "inf", "soon", ""])
async def test_a_wait_out_of_range_is_422_and_takes_no_frame(codec: Codec, tmp_path: Path, wait: str) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        response = await rig.post(wait=wait)
        assert (response.status_code, response.json()["type"]) == (
            422,
            "urn:splitcodec:problem:invalid-request",
        )
        assert "wait" in response.json()["detail"]
        assert rig.cloud.frames == []

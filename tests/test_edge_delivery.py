"""From the edge's disk to the cloud: what 202 promises, and the order of frames."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import httpx
from delivery_rig import CONTEXT, away, emptied, metric, seqs, settled, spool, state
from edge_rig import Refusal, edge_rig, one_cat

from edge.codec import Codec
from edge.spool_file import SPOOL_FILE
from splitcodec.wire.v1 import ingest_pb2

PATIENCE_S = 30.0


async def test_a_frame_nobody_waits_for_is_202_and_answered_later(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        response = await rig.post(camera="gate", wait="false", rate=1)
        body = response.json()
        assert response.status_code == 202
        assert (body["device"], body["camera"], body["state"]) == ("box-1", "gate", "spooled")
        assert response.headers["location"] == f"/v1/frames/{body['id']}"
        await settled(rig, body["id"])
        report = (await rig.http.get(response.headers["location"])).json()
        assert (report["seq"], report["detections"][0]["label"]) == (body["seq"], "cat")
        assert (await rig.http.get(f"{response.headers['location']}/overlay.jpg")).status_code == 200
        await emptied(rig)
        assert await metric(rig, "splitcodec_edge_frames_total", outcome="spooled") == 1


async def test_prefer_respond_async_does_not_wait_either(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        rig.http.headers["Prefer"] = "respond-async"
        assert (await rig.post()).status_code == 202


async def test_202_means_that_the_frame_is_on_disk(codec: Codec, tmp_path: Path) -> None:
    async with away(codec, tmp_path) as (rig, _):
        response = await rig.post()
        assert response.status_code == 202
        assert (tmp_path / SPOOL_FILE).exists()
        assert (await rig.http.get("/readyz")).json()["spool"]["frames"] == 1
        assert "cannot be reached" in response.json()["reason"]
        assert await state(rig, response.json()["id"]) == "spooled"


async def test_a_cloud_that_comes_back_gets_every_frame_once_and_in_order(
    codec: Codec, tmp_path: Path
) -> None:
    async with away(codec, tmp_path) as (rig, come_back):
        sent = {camera: await spool(rig, 25, camera) for camera in ("door", "yard")}
        sent["door"].append((await rig.post(camera="door")).json()["id"])
        cloud = await come_back()
        for names in sent.values():
            await settled(rig, *names)
        await emptied(rig)
        assert {camera: cloud.seqs(camera) for camera in sent} == {
            camera: seqs(names) for camera, names in sent.items()
        }
        assert await metric(rig, "splitcodec_edge_delivered_frames_total") == 51
        assert (await rig.post()).status_code == 200


async def test_the_next_edge_sends_what_the_last_one_left(codec: Codec, tmp_path: Path) -> None:
    async with away(codec, tmp_path) as (rig, _):
        names = await spool(rig, 12)
    (tmp_path / "numbers").unlink()  # even then no number of a frame on disk is used again
    async with edge_rig(codec, tmp_path) as rig:
        await settled(rig, *names)
        assert rig.cloud.seqs() == seqs(names)
        assert (await rig.post()).json()["seq"] > max(seqs(names))


async def test_a_slow_cloud_leaves_the_frame_on_disk_until_it_answers(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=0.2) as rig:
        go_on = asyncio.Event()

        async def slow(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            await go_on.wait()
            return one_cat(frame)

        rig.cloud.answer = slow
        response = await rig.post()
        assert response.status_code == 202
        assert "0.2 s" in response.json()["reason"]
        go_on.set()
        await settled(rig, response.json()["id"])
        await emptied(rig)


async def test_what_was_not_acknowledged_is_sent_again_in_order(codec: Codec, tmp_path: Path) -> None:
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 10)
        cloud = await come_back()
        broken = seqs(names)[4]

        async def break_once(frame: ingest_pb2.Frame, context: CONTEXT) -> ingest_pb2.InferResponse:
            if frame.key.seq == broken and cloud.opened == 1:
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "StoreUnavailable", "the disk is full")
            return one_cat(frame)

        cloud.answer = break_once
        await settled(rig, *names)
    again = cloud.seqs()[-6:]
    assert again == seqs(names)[4:]
    assert cloud.seqs()[:5] == seqs(names)[:5]


async def test_a_stream_that_falls_silent_is_opened_anew(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=0.3) as rig:

        async def silent_at_first(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            if rig.cloud.opened == 1:
                await asyncio.Event().wait()
            return one_cat(frame)

        rig.cloud.answer = silent_at_first
        (name,) = await spool(rig, 1)
        await settled(rig, name)
        assert rig.cloud.opened >= 2


async def test_draining_delivers_what_it_can_and_leaves_the_rest_on_disk(
    codec: Codec, tmp_path: Path
) -> None:
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 20)
        cloud = await come_back()
        await cloud.wait_for(1)
        await rig.pipeline.drain(PATIENCE_S)
        assert cloud.seqs() == seqs(names)
    async with away(codec, tmp_path) as (rig, _):
        await spool(rig, 3)
        started = time.monotonic()
        await rig.pipeline.drain(PATIENCE_S)  # nobody is there to take them: no reason to wait
        assert time.monotonic() - started < PATIENCE_S / 2
    async with edge_rig(codec, tmp_path) as rig:
        await rig.cloud.wait_for(3)


async def test_a_client_that_waits_while_the_edge_stops_gets_202(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=60) as rig:
        rig.cloud.answer = _never
        waiting = asyncio.create_task(rig.post())
        await rig.cloud.wait_for(1)
        await rig.pipeline.drain(0.1)
        response: httpx.Response = await asyncio.wait_for(waiting, PATIENCE_S)
        assert response.status_code == 202
    async with edge_rig(codec, tmp_path) as rig:
        await rig.cloud.wait_for(1)
        assert rig.cloud.frames[0].key.seq == response.json()["seq"]


async def _never(*_: object) -> ingest_pb2.InferResponse:
    await asyncio.Event().wait()
    raise AssertionError

"""From the edge's disk to the cloud: what 202 promises, the order of frames, and when one is given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from edge_rig import EdgeRig, FakeCloud, Refusal, edge_rig, fake_cloud, one_cat, tiny_codec
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from edge.codec import Codec
from edge.spool_file import SPOOL_FILE
from splitcodec.wire.v1 import ingest_pb2

PATIENCE_S = 30.0
CONTEXT = grpc.aio.ServicerContext


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@asynccontextmanager
async def away(codec: Codec, folder: Path, **options: object) -> AsyncIterator[tuple[EdgeRig, Return]]:
    """An edge whose cloud is away, and the function that brings it back."""
    async with fake_cloud() as gone:
        port = int(gone.target.rpartition(":")[2])
    async with AsyncExitStack() as stack:
        target = f"127.0.0.1:{port}"
        rig = await stack.enter_async_context(edge_rig(codec, folder, cloud_target=target, **options))
        clouds = await stack.enter_async_context(AsyncExitStack())
        yield rig, lambda: clouds.enter_async_context(fake_cloud(port))


Return = Callable[[], Awaitable[FakeCloud]]


async def state(rig: EdgeRig, name: str) -> str:
    response = await rig.http.get(f"/v1/frames/{name}")
    return str(response.json()["state"]) if response.status_code == 200 else f"{response.status_code}"


async def settled(rig: EdgeRig, *names: str, want: str = "answered") -> None:
    for name in names:
        await until(lambda name=name: _is(rig, name, want))  # type: ignore[misc]


async def _is(rig: EdgeRig, name: str, want: str) -> bool:
    return await state(rig, name) == want


async def emptied(rig: EdgeRig) -> None:
    async def empty() -> bool:
        return bool((await rig.http.get("/readyz")).json()["spool"]["frames"] == 0)

    await until(empty)


async def spool(rig: EdgeRig, frames: int, camera: str = "default") -> list[str]:
    """Post frames that nobody waits for; their ids."""
    answers = [await rig.post(camera=camera, wait="false") for _ in range(frames)]
    assert [answer.status_code for answer in answers] == [202] * frames
    return [answer.json()["id"] for answer in answers]


async def metric(rig: EdgeRig, name: str, **labels: str) -> float:
    text = (await rig.http.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def seqs(names: list[str]) -> list[int]:
    return [int(name.rpartition("-")[2]) for name in names]


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


async def test_a_refusal_that_a_roll_out_cures_holds_one_camera_and_loses_nothing(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lane.HOLD_S", (0.05, 0.05))
    async with edge_rig(codec, tmp_path) as rig:
        cured = False

        async def mismatch(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            if frame.key.camera == "old" and not cured:
                raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "PackMismatch", "deploy pack 0011")
            return one_cat(frame)

        rig.cloud.answer = mismatch
        response = await rig.post(camera="old")
        assert response.status_code == 202
        assert "PackMismatch: deploy pack 0011" in response.json()["reason"]
        names = [response.json()["id"], *await spool(rig, 5, "old")]
        assert (await rig.post(camera="new")).status_code == 200
        await until(lambda: _refused(rig, 7))
        cured = True
        await settled(rig, *names)
        delivered = list(dict.fromkeys(rig.cloud.seqs("old")))
        assert delivered == seqs(names)


async def _refused(rig: EdgeRig, times: int) -> bool:
    return await metric(rig, "splitcodec_edge_stream_ends_total", reason="refused") >= times


async def test_a_frame_that_is_refused_for_itself_is_given_up_and_the_next_one_goes(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lane.HOLD_S", (0.01, 0.01))
    monkeypatch.setattr("edge.replies.REFUSED_FOR_S", 0)
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 3)

        async def choke(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            if frame.key.seq == seqs(names)[1]:
                raise Refusal(grpc.StatusCode.INTERNAL, "", "internal error")
            return one_cat(frame)

        cloud = await come_back()
        cloud.answer = choke
        await settled(rig, names[0], names[2])
        assert await state(rig, names[1]) == "quarantined"
        assert cloud.seqs().count(seqs(names)[1]) == 5
        assert await metric(rig, "splitcodec_edge_spool_quarantined_total", reason="refused") == 1


async def test_a_frame_on_disk_that_the_cloud_will_never_take_is_quarantined(
    codec: Codec, tmp_path: Path
) -> None:
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 3)

        async def refuse(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            if frame.key.seq == seqs(names)[1]:
                raise Refusal(grpc.StatusCode.NOT_FOUND, "UnknownTask", "no such task", settled=True)
            return one_cat(frame)

        cloud = await come_back()
        cloud.answer = refuse
        await settled(rig, names[0], names[2])
        await settled(rig, names[1], want="quarantined")
        assert "no such task" in (await rig.http.get(f"/v1/frames/{names[1]}")).json()["reason"]
        assert cloud.seqs() == seqs(names)


async def test_a_settled_refusal_is_a_loss_whatever_its_code_means_otherwise(
    codec: Codec, tmp_path: Path
) -> None:
    async def refuse(*_: object) -> ingest_pb2.InferResponse:
        raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "PackTooLarge", "too large; cut it", settled=True)

    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 1)
        (await come_back()).answer = refuse
        await settled(rig, *names, want="quarantined")
        assert "too large; cut it" in (await rig.http.get(f"/v1/frames/{names[0]}")).json()["reason"]
        assert await metric(rig, "splitcodec_edge_delivered_frames_total") == 0


async def test_a_frame_whose_result_the_cloud_deleted_since_counts_as_delivered(
    codec: Codec, tmp_path: Path
) -> None:
    async def retired(*_: object) -> ingest_pb2.InferResponse:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "ResultRetired", "up to seq 9", settled=True)

    async with away(codec, tmp_path) as (rig, come_back):
        await spool(rig, 2)
        (await come_back()).answer = retired
        await emptied(rig)
        assert await metric(rig, "splitcodec_edge_spool_quarantined_total") == 0
        assert await metric(rig, "splitcodec_edge_delivered_frames_total", path="spool") == 2
        response = await rig.post()
    assert response.status_code == 502
    assert "deleted its result since" in response.json()["detail"]


async def test_a_cloud_that_is_never_updated_does_not_keep_frames_for_ever(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lane.HOLD_S", (0.01, 0.01))
    async with away(codec, tmp_path, refusal_patience_s=0) as (rig, come_back):
        names = await spool(rig, 4)

        async def mismatch(*_: object) -> ingest_pb2.InferResponse:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "PackMismatch", "deploy pack 0011")

        cloud = await come_back()
        cloud.answer = mismatch
        await settled(rig, *names, want="quarantined")


async def test_an_acknowledgement_without_a_result_is_no_answer(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:

        async def mute(frame: ingest_pb2.Frame, _: CONTEXT) -> ingest_pb2.InferResponse:
            response = one_cat(frame)
            response.result.ClearField("output")
            return response

        rig.cloud.answer = mute
        response = await rig.post()
        assert (response.status_code, response.json()["title"]) == (502, "Cloud refused the frame")


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

"""What a client may say with POST /v1/frames: how long it waits, and that it posts something again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import httpx
import pytest
from edge_rig import JPEG_TYPE, EdgeRig, Refusal, edge_rig, one_cat, picture, see_a_cat, tiny_codec
from waiting import until

from edge.codec import Codec
from edge.posts import KEPT_KEYS, Posts, post_of
from edge.spool_file import SPOOL_FILE
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


async def post(rig: EdgeRig, key: str, data: bytes | None = None, **params: object) -> httpx.Response:
    return await rig.http.post(
        "/v1/frames",
        content=data or picture(),
        params=params,
        headers={**JPEG_TYPE, "Idempotency-Key": key},
    )


async def outcomes(rig: EdgeRig) -> dict[str, float]:
    """Frames by outcome, as counted."""
    samples = next(iter(rig.pipeline.metrics.frames.collect())).samples
    return {one.labels["outcome"]: one.value for one in samples if one.name.endswith("_total")}


async def test_a_repeated_post_is_the_same_frame(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        first, again, other = await post(rig, "a"), await post(rig, "a"), await post(rig, "b")
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.json() == again.json()
        assert other.json()["seq"] > first.json()["seq"]
        assert len(rig.cloud.frames) == 2
        assert await outcomes(rig) == {"ok": 2, "repeated": 1}


async def test_repeats_at_the_same_time_wait_for_the_one_frame(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        answers = await asyncio.gather(*(post(rig, "a") for _ in range(8)))
        assert len({answer.text for answer in answers}) == len(rig.cloud.frames) == 1


async def test_a_repeat_of_a_frame_on_disk_tells_where_it_is(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, cloud_target="127.0.0.1:1") as rig:
        first, again = await post(rig, "a", wait=0), await post(rig, "a", wait=60)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.headers["location"] == again.headers["location"]
        assert (await rig.http.get("/readyz")).json()["spool"]["frames"] == 1


@pytest.mark.parametrize("change", [{"data": picture(seed=1)}, {"camera": "yard"}, {"rate": 1}])
async def test_a_key_with_something_else_is_422_and_takes_no_frame(
    codec: Codec, tmp_path: Path, change: dict[str, bytes]
) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        await post(rig, "a")
        refused = await post(rig, "a", **change)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:splitcodec:problem:frame-conflict")
        assert len(rig.cloud.frames) == 1


@pytest.mark.parametrize("key", ["", "two words", "k" * 129, "sch\u00f6n"])
async def test_an_unusable_key_is_422(codec: Codec, tmp_path: Path, key: str) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        headers = {**JPEG_TYPE, "Idempotency-Key": key.encode("latin-1")}
        refused = await rig.http.post("/v1/frames", content=picture(), headers=headers)  # type: ignore[arg-type]
        assert refused.status_code == 422
        assert "idempotency-key" in refused.json()["detail"].lower()


async def test_a_key_outlives_a_crash_with_its_frame_and_no_second_one_is_made(
    codec: Codec, tmp_path: Path
) -> None:
    async with edge_rig(codec, tmp_path / "crashed", deadline_s=600) as rig:
        rig.cloud.answer = never
        waiting = asyncio.create_task(post(rig, "a"))
        await rig.cloud.wait_for(frames=1)
        (tmp_path / "copy").mkdir()
        for file in (tmp_path / "crashed").glob("s*"):  # as a power cut would leave them
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
        sent = rig.cloud.frames[0].key.seq
        rig.cloud.answer = see_a_cat
        waiting.cancel()
        await asyncio.wait([waiting])
    async with edge_rig(codec, tmp_path / "copy", deadline_s=600) as rig:
        await rig.cloud.wait_for(frames=1)

        async def answered() -> bool:
            return (await post(rig, "a")).status_code == 200

        await until(answered)
        assert [frame.key.seq for frame in rig.cloud.frames] == [sent]
        assert (await post(rig, "b")).json()["seq"] > sent


async def test_a_key_whose_picture_was_refused_can_be_used_again(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        assert (await post(rig, "a", b"no picture")).status_code == 415
        assert (await post(rig, "a")).status_code == 200


async def test_a_frame_that_the_cloud_refused_stays_refused_under_its_key(
    codec: Codec, tmp_path: Path
) -> None:
    async def refuse(frame: ingest_pb2.Frame, _: grpc.aio.ServicerContext) -> ingest_pb2.InferResponse:
        raise Refusal(grpc.StatusCode.DATA_LOSS, "SigmaIndexMismatch", "differs", settled=True)

    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        rig.cloud.answer = refuse
        assert (await post(rig, "a")).status_code == 502

        async def quarantined() -> bool:
            return bool((await post(rig, "a")).json()["state"] == "quarantined")

        await until(quarantined)
        assert len(rig.cloud.frames) == 1


async def test_a_disk_that_takes_nothing_lets_a_keyed_frame_through_to_a_cloud_that_answers(
    codec: Codec, tmp_path: Path
) -> None:
    (tmp_path / SPOOL_FILE).mkdir()
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        first, again = await post(rig, "a"), await post(rig, "a")
        assert (first.status_code, first.json()) == (200, again.json())
        assert (await post(rig, "b", wait=0)).status_code == 503
        assert (await post(rig, "b", wait=60)).status_code == 200
        assert len(rig.cloud.frames) == 2


async def test_only_the_last_keys_are_kept(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        report = await rig.pipeline.find((await rig.post()).json()["id"])
    posts, made = Posts(), []

    async def make() -> object:
        made.append(1)
        return report

    async def find(_: str) -> object:
        return report

    for number in [*range(KEPT_KEYS + 1), KEPT_KEYS, 0]:
        await posts.once(post_of(str(number), b""), make, find)  # type: ignore[arg-type]
    assert len(made) == KEPT_KEYS + 2


async def test_a_repeat_of_a_frame_that_was_answered_before_a_restart_tells_its_id(
    codec: Codec, tmp_path: Path
) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        first = (await post(rig, "a")).json()

        async def emptied() -> bool:
            return bool((await rig.http.get("/readyz")).json()["spool"]["frames"] == 0)

        await until(emptied)
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        again = await post(rig, "a")
        assert (again.status_code, again.json()["state"]) == (202, "settled")
        assert (again.json()["id"], again.json()["device"]) == (first["id"], "box-1")
        assert rig.cloud.frames == []

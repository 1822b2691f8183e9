"""Frames that were set aside: listed, sent again under their own ids, in the way of nobody."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from edge_rig import EdgeRig, Refusal, edge_rig, one_cat, see_a_cat, tiny_codec
from waiting import until

from edge.codec import Codec
from splitcodec.wire.v1 import ingest_pb2


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


async def refuse(frame: ingest_pb2.Frame, _: grpc.aio.ServicerContext) -> ingest_pb2.InferResponse:
    """A cloud that takes nothing but the frames of the yard."""
    if frame.key.camera == "yard":
        return one_cat(frame)
    raise Refusal(grpc.StatusCode.DATA_LOSS, "SigmaIndexMismatch", "differs", settled=True)


async def listed(rig: EdgeRig) -> list[dict[str, object]]:
    """What is set aside, newest first."""
    said = (await rig.http.get("/v1/quarantine")).json()
    assert said["total"] >= len(said["frames"])
    return list(said["frames"])


async def quarantined(rig: EdgeRig, *cameras: str) -> list[str]:
    """Ids of frames that the cloud refused, one of each camera."""
    rig.cloud.answer = refuse
    names = [(await rig.post(camera=camera, wait=0)).json()["id"] for camera in cameras]

    async def all_there() -> bool:
        return len(await listed(rig)) == len(cameras)

    await until(all_there)
    rig.cloud.answer = see_a_cat
    return names


async def answered(rig: EdgeRig, *names: str) -> None:
    async def done() -> bool:
        states = [(await rig.http.get(f"/v1/frames/{name}")).json().get("state") for name in names]
        return states == ["answered"] * len(names)

    await until(done)


async def replay(rig: EdgeRig, **params: str) -> dict[str, object]:
    response = await rig.http.post("/v1/quarantine/replay", params=params)
    assert response.status_code == 200
    return dict(response.json())


async def test_a_frame_that_was_set_aside_is_listed_and_sent_again(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        names = await quarantined(rig, "door", "door", "gate")
        newest = (await listed(rig))[0]
        assert (newest["id"], newest["task"], newest["replayable"]) == (names[2], "detect", True)
        assert newest["reason"] == "SigmaIndexMismatch: differs"
        assert newest["num_bytes"] == len(rig.cloud.frames[2].bitstream)
        later = (await rig.post(camera="door")).json()["id"]
        assert await replay(rig) == {"replayed": names, "left": 0}
        await answered(rig, *names, later)
        assert await listed(rig) == []
        assert {frame.key.camera: frame for frame in rig.cloud.frames[4:]}.keys() == {"door", "gate"}
        assert rig.cloud.frames[0].bitstream in [frame.bitstream for frame in rig.cloud.frames[4:]]


async def test_one_camera_or_one_frame_can_be_chosen(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        names = await quarantined(rig, "door", "gate", "shed")
        assert (await replay(rig, camera="gate"))["replayed"] == [names[1]]
        assert (await replay(rig, frame=names[2]))["replayed"] == [names[2]]
        assert (await replay(rig, frame=names[2]))["replayed"] == []
        await answered(rig, names[1], names[2])
        assert [one["id"] for one in await listed(rig)] == [names[0]]
        wrong = await rig.http.post("/v1/quarantine/replay", params={"frame": "door"})
        assert wrong.json()["type"] == "urn:splitcodec:problem:invalid-request"


async def test_replayed_frames_go_in_order_among_frames_under_way(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        old = await quarantined(rig, "door", "door")
        fresh = [(await rig.post(camera="door", wait=0)).json()["id"] for _ in range(3)]
        await replay(rig)
        fresh += [(await rig.post(camera="door", wait=0)).json()["id"] for _ in range(3)]
        await answered(rig, *old, *fresh)

        async def empty() -> bool:
            return bool((await rig.http.get("/readyz")).json()["spool"]["frames"] == 0)

        await until(empty)


async def test_what_is_refused_again_comes_back_and_blocks_nobody(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        names = await quarantined(rig, "door")
        rig.cloud.answer = refuse
        assert (await replay(rig))["replayed"] == names
        await rig.cloud.wait_for(frames=2)

        async def back() -> bool:
            return [one["id"] for one in await listed(rig)] == names

        await until(back)
        assert (await rig.post(camera="yard")).status_code == 200


async def test_a_damaged_frame_is_listed_and_stays(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        (name,) = await quarantined(rig, "door")
        await rig.pipeline.quarantine._outbox.spool.run(
            lambda spool: spool.connection.execute("UPDATE remains SET bitstream = x'00'").rowcount
        )
        assert (await replay(rig))["replayed"] == []
        (found,) = await listed(rig)
        assert (found["id"], found["replayable"]) == (name, False)


async def test_the_quarantine_outlives_a_restart(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        names = await quarantined(rig, "door")
    async with edge_rig(codec, tmp_path) as rig:
        assert (await replay(rig))["replayed"] == names
        await answered(rig, *names)

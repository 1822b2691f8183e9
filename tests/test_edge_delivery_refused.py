"""Frames from the edge's disk that the cloud refuses: held, given up, or counted as delivered."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from delivery_rig import CONTEXT, away, emptied, metric, seqs, settled, spool, state
from edge_rig import EdgeRig, FakeCloud, Refusal, edge_rig, one_cat
from waiting import until

from edge.codec import Codec
from splitcodec.wire.v1 import ingest_pb2


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


async def test_a_frame_whose_answer_vanished_is_not_acknowledged_by_the_next_one(
    codec: Codec, tmp_path: Path
) -> None:
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 4)
        cloud = await come_back(FakeCloud(loses=[False, True, False]))
        await settled(rig, *names)
        assert cloud.opened == 2
        assert list(dict.fromkeys(cloud.seqs())) == seqs(names)
        assert cloud.seqs().count(seqs(names)[0]) == 1
        assert cloud.seqs().count(seqs(names)[1]) == 2
        assert await metric(rig, "splitcodec_edge_delivered_frames_total", path="spool") == 4
        again = cloud.indexes.index(0, 1)  # the second stream counts anew
        assert cloud.indexes == [*range(again), *range(len(cloud.indexes) - again)]


async def test_a_frame_that_is_acknowledged_without_an_answer_time_after_time_is_given_up(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.replies.REFUSED_FOR_S", 0)
    async with away(codec, tmp_path) as (rig, come_back):
        names = await spool(rig, 3)
        await come_back(FakeCloud(loses=[False, *[True, False] * 5]))
        await settled(rig, names[0], names[2])
        await settled(rig, names[1], want="quarantined")
        assert (
            "acknowledged the frame without a result"
            in (await rig.http.get(f"/v1/frames/{names[1]}")).json()["reason"]
        )

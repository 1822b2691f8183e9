"""splitcodec.client against a real edge on a real port: answers, and the edge's errors by their class."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from edge_rig import EdgeRig, Refusal, edge_rig, picture, see_a_cat
from http_rig import serving
from test_edge_quarantine import quarantined
from waiting import until

from edge import dead_letters
from edge import report as edge_report
from edge.app import create_app
from edge.codec import Codec
from splitcodec.client import AsyncEdgeClient, EdgeClient, FrameTicket, Retry, answers
from splitcodec.client.picture import picture_body
from splitcodec.errors import (
    BrokenFrame,
    CloudRefused,
    DeadlineExceeded,
    InvalidRequest,
    PromptNotFound,
    RateOutOfRange,
    ResultNotFound,
    StateChanged,
    UnknownTask,
    UnsupportedFrame,
)
from splitcodec.frame import read_picture
from splitcodec.tasks import Box, Detection

CAT = (Detection("cat", 0, 0.75, Box(20.0, 10.0, 120.0, 90.0)),)
QUICK = Retry(first_pause_s=0.01, longest_pause_s=0.05)
PATIENCE_S = 20.0


@dataclass
class Edge:
    """A running edge, where it listens, and a client of it."""

    rig: EdgeRig
    url: str
    client: AsyncEdgeClient


@pytest.fixture
async def edge(codec: Codec, tmp_path: Path) -> AsyncIterator[Edge]:
    async with (
        edge_rig(codec, tmp_path / "state", deadline_s=PATIENCE_S) as rig,
        serving(create_app(rig.pipeline)) as url,
        AsyncEdgeClient(url, retry=QUICK, deadline_s=PATIENCE_S) as client,
    ):
        yield Edge(rig, url, client)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_detect_takes_bytes_paths_and_pixels(edge: Edge, tmp_path: Path, kind: str) -> None:
    data = picture(120, 200, kind)
    path = tmp_path / "photo"
    path.write_bytes(data)
    for image in (data, path, str(path), read_picture(data)):
        report = await edge.client.detect(image, camera="door", rate=1.5)
        assert report.detections == CAT
        assert (report.camera, report.task, report.rate) == ("door", "detect", 1.5)
        assert (report.source_height, report.source_width) == (120, 200)
    assert report.num_bytes == len(edge.rig.cloud.frames[-1].bitstream)


def test_pixels_are_sent_almost_as_they_are() -> None:
    pixels = read_picture(picture(64, 96))
    body, kind = picture_body(pixels)
    assert kind == "image/jpeg"
    assert np.abs(read_picture(body).astype(int) - pixels).mean() < 2
    with pytest.raises(UnsupportedFrame, match="float64"):
        picture_body(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(BrokenFrame, match="no-such-file"):
        picture_body("no-such-file.jpg")


async def test_the_edges_errors_come_back_by_their_class(edge: Edge) -> None:
    with pytest.raises(UnknownTask, match=r"404 Unknown task: .*'fly'.*Ask GET /v1/prompts"):
        await edge.client.infer(picture(), task="fly")
    with pytest.raises(RateOutOfRange):
        await edge.client.detect(picture(), rate=9)
    with pytest.raises(BrokenFrame):
        await edge.client.detect(picture()[:300])
    with pytest.raises(ResultNotFound):
        await edge.client.get("door-1")


async def test_a_frame_kept_while_the_cloud_is_slow_is_waited_for(codec: Codec, tmp_path: Path) -> None:
    answer = asyncio.Event()

    async def slowly(frame, context):  # type: ignore[no-untyped-def]
        await answer.wait()
        return await see_a_cat(frame, context)

    async with (
        edge_rig(codec, tmp_path / "state", deadline_s=0.5) as rig,
        serving(create_app(rig.pipeline)) as url,
        AsyncEdgeClient(url, deadline_s=PATIENCE_S) as client,
    ):
        assert (await client.detect(picture())).detections == CAT
        rig.cloud.answer = slowly
        with pytest.raises(DeadlineExceeded, match="is kept by the edge"):
            await client.detect(picture(), deadline_s=4.0)
        waiting = asyncio.ensure_future(client.detect(picture()))
        await rig.cloud.wait_for(frames=3)
        answer.set()
        assert (await waiting).detections == CAT


async def test_submit_leaves_the_frame_and_get_has_it_later(edge: Edge) -> None:
    ticket = await edge.client.submit(picture(), camera="door")
    assert (ticket.camera, ticket.state) == ("door", "spooled")
    await edge.rig.cloud.wait_for(frames=1)
    found = await edge.client.get(ticket.id)
    while isinstance(found, FrameTicket):
        assert found.may_be_answered
        found = await edge.client.get(ticket.id)
    assert (found.id, found.detections) == (ticket.id, CAT)
    assert read_picture(await edge.client.overlay(ticket.id)).shape == (120, 200, 3)


async def test_a_refused_frame_is_an_error_at_once(edge: Edge) -> None:
    async def refuse(frame, context):  # type: ignore[no-untyped-def]
        raise Refusal(grpc.StatusCode.DATA_LOSS, "SigmaIndexMismatch", "differs", settled=True)

    edge.rig.cloud.answer = refuse
    with pytest.raises(CloudRefused, match="differs"):
        await edge.client.detect(picture(), deadline_s=PATIENCE_S)


async def test_frames_that_were_set_aside_are_listed_and_sent_again(edge: Edge) -> None:
    names = await quarantined(edge.rig, "door", "gate", "shed")
    found = await edge.client.quarantine(limit=2)
    assert (found.total, [one.id for one in found.frames]) == (3, names[:0:-1])
    one = found.frames[0]
    assert (one.device, one.camera, one.task, one.replayable) == ("box-1", "shed", "detect", True)
    assert one.reason == "SigmaIndexMismatch: differs"
    assert await edge.client.replay("gate") == answers.Replay((names[1],), 0)
    assert await edge.client.replay(frame_id=names[2]) == answers.Replay((names[2],), 0)

    def blocking() -> tuple[list[str], answers.Replay, int]:
        with EdgeClient(edge.url, retry=QUICK, deadline_s=PATIENCE_S) as client:
            left = [one.id for one in client.quarantine().frames]
            return left, client.replay(), client.quarantine().total

    assert await asyncio.to_thread(blocking) == ([names[0]], answers.Replay((names[0],), 0), 0)
    for name in names:
        await until(lambda name=name: _answered(edge, name))


async def test_a_replay_of_nothing_that_can_be_is_refused(edge: Edge) -> None:
    for asked in ({"frame_id": "door"}, {"camera": "door", "frame_id": "door-1"}, {"camera": ""}):
        with pytest.raises(InvalidRequest):
            await edge.client.replay(**asked)
    with pytest.raises(InvalidRequest):
        await edge.client.quarantine(limit=0)


async def test_set_prompt_changes_what_the_next_frame_is_coded_with(edge: Edge) -> None:
    (prompt,) = await edge.client.prompts()
    assert (prompt.task, prompt.max_rate, prompt.active) == ("detect", 2.0, True)
    told = await edge.client.set_prompt("door", task="detect", rate=0.5)
    assert (told.camera, told.rate, told.chosen) == ("door", 0.5, True)
    assert told.prompt_digest == prompt.prompt_digest
    assert (await edge.client.infer(picture(), camera="door")).rate == 0.5
    assert (await edge.client.infer(picture(), camera="yard")).rate == prompt.default_rate
    with pytest.raises(InvalidRequest, match="exclude each other"):
        await edge.client.set_prompt("door", task="detect", rate=1, target_kbps=100)


async def test_a_camera_is_kept_to_one_prompt(edge: Edge) -> None:
    (prompt,) = await edge.client.prompts()
    told = await edge.client.set_prompt("door", prompt_digest=prompt.prompt_digest)
    assert (told.task, told.prompt_digest, told.pinned) == ("detect", prompt.prompt_digest, True)
    with pytest.raises(PromptNotFound):
        await edge.client.set_prompt("door", prompt_digest="00" * 8)
    for both_or_neither in ({}, {"task": "detect", "prompt_digest": prompt.prompt_digest}):
        with pytest.raises(InvalidRequest, match="either task or prompt_digest"):
            await edge.client.set_prompt("door", **both_or_neither)


async def test_who_was_slower_changes_nothing_and_is_told_so(edge: Edge) -> None:
    seen = await edge.client.set_prompt("door", task="detect", rate=0.5)
    faster = await edge.client.set_prompt("door", task="detect", rate=1, if_match=seen.etag)
    assert (faster.rate, faster.etag != seen.etag) == (1, True)

    def slower() -> None:
        with EdgeClient(edge.url, retry=QUICK, deadline_s=PATIENCE_S) as client:
            client.set_prompt("door", task="detect", rate=2, if_match=seen.etag)

    with pytest.raises(StateChanged, match=faster.etag):
        await asyncio.to_thread(slower)
    with pytest.raises(StateChanged, match=faster.etag):
        await edge.client.set_prompt("door", task="detect", rate=2, if_match=seen.etag)
    assert (await edge.client.infer(picture(), camera="door")).rate == 1


async def test_ready_tells_cloud_and_spool(edge: Edge) -> None:
    ready = await edge.client.ready()
    assert (ready.ready, ready.device, ready.tasks, ready.spool.frames) == (True, "box-1", ("detect",), 0)
    assert ready.cloud.target == edge.rig.cloud.target


async def test_blocking_client_makes_the_same_calls(edge: Edge) -> None:
    def calls() -> tuple[object, ...]:
        with EdgeClient(edge.url, retry=QUICK, deadline_s=PATIENCE_S) as client:
            report = client.detect(picture(), camera="door")
            with pytest.raises(UnknownTask):
                client.infer(picture(), task="fly")
            told = client.set_prompt("door", task="detect", rate=0.5)
            ticket = client.submit(picture(), camera="door")
            return (
                report.detections, client.get(report.id), client.prompts()[0].task, told.rate, ticket.state,
                client.ready().ready, client.overlay(report.id)[:2],
            )  # fmt: skip

    detections, found, *rest = await asyncio.to_thread(calls)
    assert detections == CAT
    assert isinstance(found, answers.FrameReport)
    assert rest == ["detect", 0.5, "spooled", True, b"\xff\xd8"]


def test_client_types_have_the_fields_the_edge_sends() -> None:
    pairs = [
        (answers.FrameReport, edge_report.FrameReport),
        (answers.FrameTicket, edge_report.FrameStatus),
        (answers.EdgePrompt, edge_report.PromptReport),
        (answers.CameraPrompt, edge_report.CameraReport),
        (answers.Readiness, edge_report.Readiness),
        (answers.CloudState, edge_report.CloudReport),
        (answers.SpoolState, edge_report.SpoolReport),
        (answers.DeadLetter, dead_letters.DeadLetter),
        (answers.Quarantine, dead_letters.QuarantineReport),
        (answers.Replay, dead_letters.Replay),
    ]
    for ours, theirs in pairs:
        assert {f.name for f in dataclasses.fields(ours)} == {f.name for f in dataclasses.fields(theirs)}, (
            ours
        )


async def test_a_key_makes_two_calls_one_frame(edge: Edge) -> None:
    reports = [await edge.client.detect(picture(), key="mine") for _ in range(2)]
    ticket = await edge.client.submit(picture(), key="other")
    await edge.rig.cloud.wait_for(frames=2)
    await until(lambda: _answered(edge, ticket.id))
    again = await edge.client.submit(picture(), key="other")
    assert reports[0] == reports[1]
    assert (again.id, again.state) == (ticket.id, "settled")
    assert len(edge.rig.cloud.frames) == 2


async def _answered(edge: Edge, name: str) -> bool:
    return isinstance(await edge.client.get(name), answers.FrameReport)

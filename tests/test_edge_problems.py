"""What goes wrong, and what a client is told: status, detail, remedy, Retry-After."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from edge_rig import JPEG_TYPE, EdgeRig, Refusal, edge_rig, one_cat, picture, tiny_codec

from edge.body import DISCARD_FACTOR
from edge.pipeline import Codec
from edge.problems import PROBLEMS, problem_for
from splitcodec import errors


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture
async def rig(codec: Codec, tmp_path: Path) -> AsyncIterator[EdgeRig]:
    async with edge_rig(codec, tmp_path, max_picture_bytes=20_000, max_picture_pixels=100_000) as running:
        yield running


def check_problem(response: httpx.Response, status: int, slug: str, *words: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:splitcodec:problem:{slug}"
    assert body["status"] == status
    assert len(body["remedy"]) > 10
    for word in words:
        assert word in body["detail"]
    return body


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "binary/octet-stream", "image/*", "text/plain", ""]
)
async def test_a_picture_is_taken_whatever_its_content_type_says(rig: EdgeRig, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert (await rig.http.post("/v1/frames", content=picture(), headers=headers)).status_code == 200


async def test_a_picture_needs_no_content_type(rig: EdgeRig) -> None:
    assert (await rig.http.post("/v1/frames", content=picture())).status_code == 200


async def test_no_picture_that_says_what_it_is_is_415_with_its_type(rig: EdgeRig) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    response = await rig.http.post("/v1/frames", content=b"a picture", headers=headers)
    check_problem(response, 415, "unsupported-frame", "'text/plain'", "image/jpeg")


async def test_bytes_that_are_no_picture_are_415(rig: EdgeRig) -> None:
    check_problem(await rig.post(b"GIF89a" + bytes(60)), 415, "unsupported-frame", "474946")


async def test_too_many_bytes_are_413(rig: EdgeRig) -> None:
    check_problem(await rig.post(b"\xff\xd8" + bytes(30_000)), 413, "frame-too-large", "20000")


@pytest.mark.parametrize("chunks", [3, 10_000])
async def test_a_body_without_content_length_is_capped_too(rig: EdgeRig, chunks: int) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(chunks):
            taken += 10_000
            yield bytes(10_000)

    response = await rig.http.post("/v1/frames", content=endless(), headers=JPEG_TYPE)
    check_problem(response, 413, "frame-too-large", "20000")
    assert taken <= DISCARD_FACTOR * 20_000


async def test_a_lying_content_length_changes_nothing(rig: EdgeRig) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield bytes(30_000)

    headers = {**JPEG_TYPE, "Content-Length": "10"}
    check_problem(await rig.http.post("/v1/frames", content=body(), headers=headers), 413, "frame-too-large")


async def test_too_many_pixels_are_413(rig: EdgeRig) -> None:
    check_problem(await rig.post(picture(400, 400)), 413, "frame-too-large", "160000", "100000")


async def test_a_truncated_picture_is_422(rig: EdgeRig) -> None:
    check_problem(await rig.post(picture()[:-40]), 422, "broken-frame", "truncated")
    assert rig.cloud.frames == []


async def test_an_empty_body_is_422(rig: EdgeRig) -> None:
    check_problem(await rig.post(b""), 422, "broken-frame", "empty")


async def test_an_unknown_task_is_404_and_the_known_ones_are_named(rig: EdgeRig) -> None:
    check_problem(await rig.post(task="segment"), 404, "unknown-task", "segment", "['detect']")


@pytest.mark.parametrize("rate", ["-0.1", "2.01", "nan", "inf"])
async def test_a_rate_outside_the_trained_points_is_422(rig: EdgeRig, rate: str) -> None:
    check_problem(await rig.post(rate=rate), 422, "rate-out-of-range", "0 to 2.0")


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"rate": "fast"}, "rate"),
        ({"camera": "a/b"}, "camera"),
        ({"camera": ""}, "camera"),
        ({"camera": "x" * 129}, "camera"),
    ],
)
async def test_malformed_parameters_are_422(rig: EdgeRig, params: dict[str, str], word: str) -> None:
    check_problem(await rig.post(**params), 422, "invalid-request", word)


async def test_one_camera_too_many_is_422(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, max_cameras=2) as rig:
        statuses = [(await rig.post(camera=name)).status_code for name in ("a", "b", "a", "c", "b")]
    assert statuses == [200, 200, 200, 422, 200]


async def test_unknown_frames_are_404(rig: EdgeRig) -> None:
    check_problem(await rig.http.get("/v1/frames/default-7"), 404, "result-not-found", "default-7")
    check_problem(await rig.http.get("/v1/frames/default-7/overlay.jpg"), 404, "result-not-found")


async def test_a_dropped_picture_says_so(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, kept_picture_bytes=0) as rig:
        frame_id = (await rig.post()).json()["id"]
        assert (await rig.http.get(f"/v1/frames/{frame_id}")).status_code == 200
        response = await rig.http.get(f"/v1/frames/{frame_id}/overlay.jpg")
    check_problem(response, 404, "result-not-found", "KEPT_PICTURE_BYTES")


async def test_unknown_paths_and_methods_are_problems_too(rig: EdgeRig) -> None:
    check_problem(await rig.http.get("/v2"), 404, "not-found")
    response = await rig.http.delete("/v1/frames/x/overlay.jpg")
    check_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"


async def test_a_frame_that_the_cloud_will_never_take_is_502(rig: EdgeRig) -> None:
    async def refuse(*_: object) -> None:
        code = grpc.StatusCode.INVALID_ARGUMENT
        raise Refusal(code, "RateOutOfRange", "rate 9 is above 2", settled=True)

    rig.cloud.answer = refuse
    body = check_problem(await rig.post(), 502, "cloud-refused", "rate 9 is above 2")
    assert "RateOutOfRange" in str(body["detail"])
    assert rig.pipeline.readiness().spool.frames == 0


async def test_a_full_spool_is_503_with_retry_after(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, cloud_target="127.0.0.1:9", spool_bytes=2**16) as rig:
        answers = [await rig.post(wait="false") for _ in range(80)]
    taken = [answer for answer in answers if answer.status_code == 202]
    assert taken
    check_problem(answers[-1], 503, "spool-full", "65536", "spool_policy")
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_a_disk_that_fails_is_503(codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite3").mkdir()
    async with edge_rig(codec, tmp_path) as rig:
        assert (await rig.post()).status_code == 200  # the cloud is there, nothing needs the disk
        check_problem(await rig.post(wait="false"), 503, "spool-unavailable", "spool.sqlite3")
        assert "cannot be opened" in rig.pipeline.readiness().spool.note


async def test_an_edge_that_stops_takes_no_more_frames(rig: EdgeRig) -> None:
    await rig.pipeline.drain(1)
    response = await rig.post()
    check_problem(response, 503, "service-stopping")
    assert int(response.headers["retry-after"]) >= 1
    ready = await rig.http.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)


async def test_an_answer_of_another_prompt_is_502(rig: EdgeRig) -> None:
    async def confuse(frame, _):  # type: ignore[no-untyped-def]
        response = one_cat(frame)
        response.result.prompt_digest = bytes(8)
        return response

    rig.cloud.answer = confuse
    check_problem(await rig.post(), 502, "cloud-refused")


async def test_an_answer_for_another_frame_is_none_and_the_frame_is_sent_again(rig: EdgeRig) -> None:
    confused: list[int] = []

    async def confuse(frame, _):  # type: ignore[no-untyped-def]
        response = one_cat(frame)
        if not confused:
            confused.append(frame.key.seq)
            response.result.key.seq += 1
        return response

    rig.cloud.answer = confuse
    response = await rig.post()
    assert (response.status_code, response.json()["state"]) == (202, "spooled")
    assert "acknowledged the frame without a result" in response.json()["reason"]
    await rig.cloud.wait_for(2)
    assert rig.cloud.seqs() == confused * 2


async def test_too_many_frames_in_work_are_429(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, max_pending_frames=2) as rig:
        arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slow(frame, _):  # type: ignore[no-untyped-def]
            arrived.release()
            await go_on.wait()
            return one_cat(frame)

        rig.cloud.answer = slow
        waiting = [asyncio.create_task(rig.post(camera=name)) for name in ("a", "b")]
        for _ in waiting:
            await arrived.acquire()
        response = await rig.post(camera="c")
        check_problem(response, 429, "queue-full", "limit is 2")
        assert int(response.headers["retry-after"]) >= 1
        go_on.set()
        assert [(await task).status_code for task in waiting] == [200, 200]
        assert (await rig.post(camera="c")).status_code == 200


async def test_a_slow_upload_is_408(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, upload_timeout_s=0.05) as rig:

        async def stalls() -> AsyncIterator[bytes]:
            yield picture()[:100]
            await asyncio.Event().wait()

        response = await rig.http.post("/v1/frames", content=stalls(), headers=JPEG_TYPE)
        check_problem(response, 408, "deadline-exceeded", "0.05 s")


async def test_internal_errors_tell_strangers_nothing(
    rig: EdgeRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise errors.GraphFailed("secret path /data")

    monkeypatch.setattr("edge.coding.read_canvas", fail)
    response = await rig.post()
    check_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert "secret path" in caplog.text


async def test_frames_go_on_after_every_error(rig: EdgeRig) -> None:
    for bad in (b"", b"GIF89a" + bytes(60), picture()[:-40], bytes(30_000)):
        assert (await rig.post(bad)).status_code >= 400
    assert (await rig.post()).status_code == 200
    assert len(rig.cloud.frames) == 1


def test_every_frame_error_has_an_entry_of_its_own() -> None:
    for error in errors.FrameError.__subclasses__():
        assert error in PROBLEMS
        assert problem_for(error("why"))[2] == "why"

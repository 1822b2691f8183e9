"""What each camera of an edge was told to use: a task or one prompt, kept, never overwritten unseen."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from cloud_prompt_rig import wire
from edge_prompt_rig import AWAY, Edge, Packs, both, edge_on, upload, write_packs
from edge_rig import JPEG_TYPE, picture

from splitcodec.packs.prompt_pack import cut_prompt_pack


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("edge-prompts"))


async def test_two_cameras_use_different_tasks_at_once(packs: Packs, tmp_path: Path) -> None:
    async with both(packs, tmp_path) as (edge, _):
        said = await edge.put("door", task="segment", rate=1.5)
        assert said.json() == {
            "camera": "door",
            "task": "segment",
            "prompt_digest": wire(packs.first, "segment").hex(),
            "rate": 1.5,
            "target_kbps": None,
            "chosen": True,
            "pinned": False,
            "since": said.json()["since"],
            "last_frame": None,
            "etag": said.json()["etag"],
        }
        assert (await edge.put("yard", task="classify")).status_code == 200
        door, yard, other = await asyncio.gather(edge.post("door"), edge.post("yard"), edge.post("gate"))
        assert (door["task"], door["rate"], door["segmentation"] is None) == ("segment", 1.5, False)
        assert (yard["task"], yard["classification"] is None) == ("classify", False)
        assert other["task"] == "detect"
        assert (await edge.post("door", task="classify"))["task"] == "classify"
        assert (await edge.post("door", rate=0))["rate"] == 0
        listed = (await edge.http.get("/v1/cameras")).json()
        assert [(one["camera"], one["task"], one["chosen"]) for one in listed] == [
            ("door", "segment", True),
            ("gate", "detect", False),
            ("yard", "classify", True),
        ]


async def test_a_camera_can_go_back_to_what_the_edge_does(packs: Packs, tmp_path: Path) -> None:
    async with both(packs, tmp_path) as (edge, _):
        await edge.put("door", task="segment")
        assert (await edge.http.delete("/v1/cameras/door/prompt")).json()["chosen"] is False
        assert (await edge.post("door"))["task"] == "detect"


async def test_what_a_camera_uses_survives_a_restart(packs: Packs, tmp_path: Path) -> None:
    async with both(packs, tmp_path) as (edge, _):
        await edge.put("door", task="segment", rate=0.5)
        await edge.put("yard", task="classify", target_kbps=40)
    async with both(packs, tmp_path) as (edge, _):
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["rate"] == 0.5
        yard = (await edge.http.get("/v1/cameras/yard/prompt")).json()
        assert (yard["task"], yard["target_kbps"]) == ("classify", 40)
        door = await edge.post("door")
        assert (door["task"], door["rate"]) == ("segment", 0.5)
        await edge.post("yard")
        goal = edge.registry.get_sample_value("splitcodec_edge_target_bytes_per_second", {"camera": "yard"})
        assert goal == 5000


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"task": "dance"}, 404, "ask for one of ['classify', 'detect', 'segment']"),
        ({"task": "detect", "rate": 2.5}, 422, "from 0 to 2.0"),
        ({"task": "detect", "rate": -1}, 422, "rate: Input should be greater than or equal to 0"),
        ({"task": "detect", "rate": 1, "target_kbps": 5}, 422, "exclude each other"),
        ({"task": "detect", "tempo": 1}, 422, "tempo"),
        ({}, 422, "either task or prompt_digest"),
        ({"task": "detect", "prompt_digest": "00" * 8}, 422, "either task or prompt_digest"),
        ({"prompt_digest": "00" * 8}, 404, "(classify), "),
        ({"prompt_digest": "door"}, 422, "prompt_digest"),
    ],
)
async def test_a_wrong_choice_is_refused_and_changes_nothing(
    packs: Packs, tmp_path: Path, body: dict[str, object], status: int, words: str
) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        await edge.put("door", task="segment")
        answer = await edge.put("door", **body)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["task"] == "segment"


async def test_bodies_that_are_no_choice_are_refused(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY, max_cameras=1) as edge:
        for body in (b"", b"[1]", b'{"task": NaN}', b'"' + b"x" * 5000 + b'"'):
            assert (await edge.http.put("/v1/cameras/door/prompt", content=body)).status_code == 422
        assert (await edge.put("door", task="segment")).status_code == 200
        answer = await edge.put("yard", task="segment")
        assert (answer.status_code, "one more than the 1" in answer.json()["detail"]) == (422, True)


async def test_a_camera_whose_task_is_gone_is_told_so(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        await edge.put("door", task="segment")
    kept = json.loads((tmp_path / "cameras.json").read_text())
    kept["cameras"]["door"]["task"] = "dance"
    (tmp_path / "cameras.json").write_text(json.dumps(kept))
    async with edge_on(packs, tmp_path, AWAY) as edge:
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["prompt_digest"] is None
        answer = await edge.http.post(
            "/v1/frames", content=picture(), params={"camera": "door"}, headers=JPEG_TYPE
        )
        assert (answer.status_code, "'dance' is not served" in answer.json()["detail"]) == (404, True)


async def test_a_damaged_file_of_choices_is_moved_aside(packs: Packs, tmp_path: Path) -> None:
    (tmp_path / "cameras.json").write_text('{"format": 1, "cameras": {"door": {"task": 5}}}')
    async with edge_on(packs, tmp_path, AWAY) as edge:
        assert (await edge.http.get("/v1/cameras")).json() == []
    assert (tmp_path / "cameras.damaged").exists()


async def test_of_two_operators_the_slower_one_overwrites_nothing(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        path = "/v1/cameras/door/prompt"
        await edge.http.put(path, json={"task": "detect"})
        seen = await edge.http.get(path)
        tag = {"If-Match": seen.headers["ETag"]}
        first = await edge.http.put(path, json={"task": "segment"}, headers=tag)
        assert (first.status_code, first.headers["ETag"]) == (200, f'"{first.json()["etag"]}"')
        for method, body in (("PUT", {"task": "classify"}), ("DELETE", None)):
            late = await edge.http.request(method, path, json=body, headers=tag)
            assert (late.status_code, late.json()["type"]) == (412, "urn:splitcodec:problem:state-changed")
            assert '"task":"segment"' in late.json()["detail"]
            assert first.headers["ETag"] in late.json()["detail"]
        assert (await edge.http.get(path)).headers["ETag"] == first.headers["ETag"]
        either = {"If-Match": f'"0000", {first.headers["ETag"]}'}
        assert (await edge.http.delete(path, headers=either)).status_code == 200
        assert (await edge.http.put(path, json={"task": "classify"}, headers=tag)).status_code == 412
        assert (await edge.http.delete(path, headers={"If-Match": "*"})).status_code == 200
        assert (await edge.http.delete(path, headers={"If-Match": "door"})).status_code == 422


async def test_of_two_at_once_one_wins(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        path = "/v1/cameras/door/prompt"
        tag = {"If-None-Match": "*"}
        wishes = [{"task": task} for task in ("segment", "classify")]
        answers = await asyncio.gather(*(edge.http.put(path, json=wish, headers=tag) for wish in wishes))
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        other = {"If-None-Match": '"0000"'}
        assert (await edge.http.put(path, json=wishes[0], headers=other)).status_code == 422


async def test_an_unknown_camera_is_404_and_the_known_ones_are_named(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        await edge.put("door", task="segment")
        for method in ("GET", "DELETE"):
            answer = await edge.http.request(method, "/v1/cameras/yard/prompt")
            assert (answer.status_code, answer.json()["type"]) == (
                404,
                "urn:splitcodec:problem:camera-not-found",
            )
            assert "there are ['door']" in answer.json()["detail"]


async def test_an_activation_names_the_prompt_it_replaces(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        seen = await edge.http.get("/v1/tasks/detect/prompt")
        tag = {"If-Match": seen.headers["ETag"]}
        assert seen.json()["prompt_digest"] == wire(packs.first, "detect").hex()
        new = (await upload(edge, cut_prompt_pack(packs.newer, "detect"))).json()["prompt_digest"]
        path, body = "/v1/tasks/detect/prompt", {"prompt_digest": new}
        assert (await edge.http.put(path, json=body, headers=tag)).headers["ETag"] == f'"{new}"'
        late = await edge.http.put(path, json=body, headers=tag)
        assert (late.status_code, f"is {new} now" in late.json()["detail"]) == (412, True)
        assert edge.swaps("StateChanged") == 1
        assert (await edge.http.get("/v1/tasks/dance/prompt")).status_code == 404


async def pinned_to_the_newer(edge: Edge, packs: Packs) -> str:
    new = (await upload(edge, cut_prompt_pack(packs.newer, "detect"))).json()["prompt_digest"]
    told = (await edge.put("door", prompt_digest=new, rate=1)).json()
    assert (told["task"], told["prompt_digest"], told["pinned"]) == ("detect", new, True)
    return str(new)


async def test_a_camera_keeps_to_one_version_of_a_prompt(packs: Packs, tmp_path: Path) -> None:
    old, options = wire(packs.first, "detect").hex(), {"follow_cloud_prompts": False}
    async with both(packs, tmp_path, **options) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        new = await pinned_to_the_newer(edge, packs)
        door, yard = await asyncio.gather(edge.post("door"), edge.post("yard"))
        assert (door["prompt_digest"], yard["prompt_digest"]) == (new, old)
        assert (await edge.post("door", task="detect"))["prompt_digest"] == old  # the frame's own wish
        refused = await edge.http.delete(f"/v1/prompts/{new}")
        assert (refused.status_code, "what a camera keeps to" in refused.json()["detail"]) == (409, True)
    async with both(packs, tmp_path, **options) as (edge, _):
        assert (await edge.post("door"))["prompt_digest"] == new
        await edge.http.delete("/v1/cameras/door/prompt")
        assert (await edge.http.delete(f"/v1/prompts/{new}")).status_code == 204


async def test_a_camera_whose_version_is_gone_is_told_so(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        new = await pinned_to_the_newer(edge, packs)
    next((tmp_path / "prompts").glob("*.zip")).unlink()
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["prompt_digest"] is None
        answer = await edge.http.post(
            "/v1/frames", content=picture(), params={"camera": "door"}, headers=JPEG_TYPE
        )
        assert (answer.status_code, f"no prompt {new} is here" in answer.json()["detail"]) == (404, True)


async def test_cameras_say_since_when_and_what_their_last_frame_was(packs: Packs, tmp_path: Path) -> None:
    async with both(packs, tmp_path) as (edge, _):
        before = time.time()
        since = (await edge.put("door", task="segment")).json()["since"]
        assert before <= since <= time.time()
        frame = await edge.post("door")
        await edge.post("yard")
        door, yard = (await edge.http.get("/v1/cameras")).json()
        assert door["since"] == since
        assert door["last_frame"] == {
            "id": frame["id"],
            "time": frame["capture_time"],
            "task": "segment",
            "prompt_digest": frame["prompt_digest"],
        }
        assert (yard["since"], yard["last_frame"]["task"]) == (None, "detect")

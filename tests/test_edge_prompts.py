"""Prompts on a running edge, before a real cloud: what cameras use, new prompts, following, ways back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import tiny_pack
from edge_rig import JPEG_TYPE, picture
from prometheus_client import CollectorRegistry
from test_cloud_prompts import LIMITS, Rig, cloud_on, coded, harmed, wire
from waiting import until

from edge.__main__ import build_codec
from edge.app import create_app
from edge.follow import GrpcPromptSource, PromptFollower, following
from edge.metrics import EdgeMetrics
from edge.pipeline import EdgePipeline, open_pipeline
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.write import write_pack

PATIENCE_S = 20.0
assert LIMITS.score_threshold == 0  # the cloud of these tests answers with every box


@dataclass(frozen=True)
class Packs:
    """Three tasks; the same ones with another `detect`; and the folder of the first."""

    folder: Path
    first: Pack
    newer: Pack


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    folder = tmp_path_factory.mktemp("edge-prompts")
    first = tiny_pack.write_three_tasks(folder / "first")
    tasks = dict(tiny_pack.three_tasks().tasks)
    changed = {"tensors": tiny_pack.prompt_tensors(9), "tail": tiny_pack.tail_graph(9)}
    tasks["detect"] = replace(tasks["detect"], **changed)
    tasks["count"] = replace(tasks["detect"], tensors=tiny_pack.prompt_tensors(10))
    write_pack(folder / "newer", replace(tiny_pack.contents(), name="newer", tasks=tasks))
    return Packs(folder / "first", first, load_pack(folder / "newer"))


@dataclass(frozen=True)
class Edge:
    """A running edge and the metrics it keeps."""

    http: httpx.AsyncClient
    pipeline: EdgePipeline
    registry: CollectorRegistry

    async def post(self, camera: str, seed: int = 0, **params: object) -> dict[str, object]:
        """The report of one frame."""
        params = {"camera": camera, **params}
        answer = await self.http.post(
            "/v1/frames", content=picture(seed=seed), params=params, headers=JPEG_TYPE
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def put(self, camera: str, **body: object) -> httpx.Response:
        return await self.http.put(f"/v1/cameras/{camera}/prompt", json=body)

    async def active(self) -> dict[str, str]:
        """task -> digest."""
        listed = (await self.http.get("/v1/prompts")).json()
        return {one["task"]: one["prompt_digest"] for one in listed if one["active"]}

    def swaps(self, outcome: str) -> float:
        value = self.registry.get_sample_value("splitcodec_prompt_swaps_total", {"outcome": outcome})
        return value or 0.0


@asynccontextmanager
async def edge_on(packs: Packs, state_dir: Path, target: str, **options: object) -> AsyncIterator[Edge]:
    settings = EdgeSettings(
        pack=str(packs.folder), cloud_target=target, state_dir=state_dir, device="box-1", threads=1, **options
    )
    async with AsyncExitStack() as stack:
        uplink = GrpcUplink(settings)
        stack.push_async_callback(uplink.close)
        state = EdgeState(settings.state_dir, settings.device)
        stack.callback(state.close)
        codec, registry = build_codec(settings), CollectorRegistry()
        metrics = EdgeMetrics(registry)
        opened = open_pipeline(settings, codec, uplink, state, metrics)
        pipeline = await stack.enter_async_context(opened)
        if settings.follow_cloud_prompts:
            source, digest = GrpcPromptSource(uplink.link), bytes.fromhex(codec.codec_digest)[:8]
            follower = PromptFollower(pipeline.prompts, source, digest, settings.max_prompt_bytes)
            await stack.enter_async_context(following(follower, metrics.background_failures))
        transport = httpx.ASGITransport(create_app(pipeline), raise_app_exceptions=False)
        http = httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=PATIENCE_S)
        yield Edge(await stack.enter_async_context(http), pipeline, registry)


@asynccontextmanager
async def both(packs: Packs, folder: Path, **options: object) -> AsyncIterator[tuple[Edge, Rig]]:
    async with cloud_on(packs.first, folder / "cloud") as cloud:
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        async with edge_on(packs, folder / "edge", target, **options) as edge:
            yield edge, cloud


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
        ({}, 422, "task: Field required"),
    ],
)
async def test_a_wrong_choice_is_refused_and_changes_nothing(
    packs: Packs, tmp_path: Path, body: dict[str, object], status: int, words: str
) -> None:
    async with edge_on(packs, tmp_path, "127.0.0.1:1") as edge:
        await edge.put("door", task="segment")
        answer = await edge.put("door", **body)
        assert answer.status_code == status
        assert words in answer.json()["detail"]
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["task"] == "segment"


async def test_bodies_that_are_no_choice_are_refused(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, "127.0.0.1:1", max_cameras=1) as edge:
        for body in (b"", b"[1]", b'{"task": NaN}', b'"' + b"x" * 5000 + b'"'):
            assert (await edge.http.put("/v1/cameras/door/prompt", content=body)).status_code == 422
        assert (await edge.put("door", task="segment")).status_code == 200
        answer = await edge.put("yard", task="segment")
        assert (answer.status_code, "one more than the 1" in answer.json()["detail"]) == (422, True)


async def test_a_camera_whose_task_is_gone_is_told_so(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, "127.0.0.1:1") as edge:
        await edge.put("door", task="segment")
    kept = json.loads((tmp_path / "cameras.json").read_text())
    kept["cameras"]["door"]["task"] = "dance"
    (tmp_path / "cameras.json").write_text(json.dumps(kept))
    async with edge_on(packs, tmp_path, "127.0.0.1:1") as edge:
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["prompt_digest"] is None
        answer = await edge.http.post(
            "/v1/frames", content=picture(), params={"camera": "door"}, headers=JPEG_TYPE
        )
        assert (answer.status_code, "'dance' is not served" in answer.json()["detail"]) == (404, True)


async def test_a_damaged_file_of_choices_is_moved_aside(packs: Packs, tmp_path: Path) -> None:
    (tmp_path / "cameras.json").write_text('{"format": 1, "cameras": {"door": {"task": 5}}}')
    async with edge_on(packs, tmp_path, "127.0.0.1:1") as edge:
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["chosen"] is False
    assert (tmp_path / "cameras.damaged").exists()


async def test_a_prompt_activated_in_the_cloud_reaches_the_edge_and_goes_back(
    packs: Packs, tmp_path: Path
) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    async with both(packs, tmp_path) as (edge, cloud):
        assert (await edge.post("door"))["prompt_digest"] == old.hex()
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        await until(lambda: edge.pipeline.prompts.active("detect") == new)
        assert (await edge.post("door"))["prompt_digest"] == new.hex()
        late = await cloud.infer(1, coded(packs.first, "detect"))
        assert late.prompt_digest == old
        await cloud.activate("detect", old)
        await until(lambda: edge.pipeline.prompts.active("detect") == old)
        assert (await edge.post("door"))["prompt_digest"] == old.hex()
        assert edge.swaps("ok") == 2


async def test_a_new_task_reaches_the_edge_and_survives_its_restart(packs: Packs, tmp_path: Path) -> None:
    async with both(packs, tmp_path) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "count"), activate=True)
        await until(lambda: edge.pipeline.prompts.active("count"))
        await edge.put("door", task="count")
        assert (await edge.post("door"))["task"] == "count"
    async with edge_on(packs, tmp_path / "edge", "127.0.0.1:1") as edge:
        assert (await edge.active())["count"] == wire(packs.newer, "count").hex()
        assert (await edge.http.get("/v1/cameras/door/prompt")).json()["prompt_digest"]


async def test_an_edge_that_was_away_catches_up(packs: Packs, tmp_path: Path) -> None:
    new = wire(packs.newer, "detect")
    async with cloud_on(packs.first, tmp_path / "cloud") as cloud:
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        async with edge_on(packs, tmp_path / "edge", target) as edge:
            await until(lambda: edge.pipeline.prompts.active("detect") == new)
            assert (await edge.post("door"))["prompt_digest"] == new.hex()


async def upload(edge: Edge, data: bytes, **params: object) -> httpx.Response:
    return await edge.http.post("/v1/prompts", content=data, params=params)


async def test_an_uploaded_prompt_waits_until_it_is_activated(packs: Packs, tmp_path: Path) -> None:
    old, new = wire(packs.first, "detect").hex(), wire(packs.newer, "detect").hex()
    async with both(packs, tmp_path, follow_cloud_prompts=False) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        answer = await upload(edge, cut_prompt_pack(packs.newer, "detect"))
        assert (answer.status_code, answer.json()["active"]) == (200, False)
        assert (await edge.post("door"))["prompt_digest"] == old
        activated = await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": new})
        assert (activated.status_code, activated.json()["active"]) == (200, True)
        assert (await edge.post("door"))["prompt_digest"] == new
        assert (await edge.http.delete(f"/v1/prompts/{new}")).status_code == 409
    async with edge_on(packs, tmp_path / "edge", "127.0.0.1:1", follow_cloud_prompts=False) as edge:
        assert (await edge.active())["detect"] == new
        await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": old})
        assert (await edge.active())["detect"] == old
        assert (await edge.http.delete(f"/v1/prompts/{new}")).status_code == 204
        assert len((await edge.http.get("/v1/prompts")).json()) == 3
        assert (await edge.http.delete(f"/v1/prompts/{old}")).status_code == 409
        assert (await edge.http.delete(f"/v1/prompts/{new}")).status_code == 404
        wrong = await edge.http.put("/v1/tasks/segment/prompt", json={"prompt_digest": old})
        assert wrong.status_code == 422
        assert edge.swaps("InvalidRequest") == 1


async def test_a_bad_upload_is_refused_and_nothing_changes(
    packs: Packs, default_pack: Pack, tmp_path: Path
) -> None:
    sound = cut_prompt_pack(packs.newer, "detect")
    tmp_path.joinpath("scratch").mkdir()
    scratch = tmp_path / "scratch"
    cases = [
        (cut_prompt_pack(default_pack, "detect"), 409, "was made for codec"),
        (sound + bytes(len(sound)), 413, f"more than {len(sound)} bytes"),
        (sound[:-200], 422, "zip"),
        (harmed(packs.newer, scratch, "g_a.conv0.weight", float("nan")), 422, "holds NaN"),
        (harmed(packs.newer, scratch, "h_s_scale.conv0.weight", 0.5), 422, "holds fractions"),
        (harmed(packs.newer, scratch, "h_s_scale.conv0.bias", 1.0), 422, "does not run here"),
        (b"", 422, "zip"),
    ]
    options = {"follow_cloud_prompts": False, "max_prompt_bytes": len(sound)}
    async with edge_on(packs, tmp_path / "edge", "127.0.0.1:1", **options) as edge:
        before = (await edge.http.get("/v1/prompts")).json()
        for data, status, words in cases[1:]:
            answer = await upload(edge, data, activate=True)
            assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
        assert (await edge.http.get("/v1/prompts")).json() == before
        assert not list((tmp_path / "edge" / "prompts").iterdir())
    async with edge_on(packs, tmp_path / "edge", "127.0.0.1:1", follow_cloud_prompts=False) as edge:
        data, status, words = cases[0]
        answer = await upload(edge, data, activate=True)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
        assert (await edge.http.get("/v1/prompts")).json() == before


async def test_an_edge_that_follows_its_cloud_is_not_switched_by_hand(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, "127.0.0.1:1") as edge:
        digest = wire(packs.first, "detect").hex()
        answer = await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": digest})
        assert (answer.status_code, "Prompts.Activate" in answer.json()["detail"]) == (409, True)
        answer = await upload(edge, cut_prompt_pack(packs.newer, "detect"), activate=True)
        assert answer.status_code == 409


async def test_old_prompts_that_no_task_uses_go_first(packs: Packs, tmp_path: Path) -> None:
    options = {"follow_cloud_prompts": False, "kept_prompts": 1}
    async with edge_on(packs, tmp_path, "127.0.0.1:1", **options) as edge:
        for seed in (31, 32, 33):
            base = tiny_pack.three_tasks()
            task = replace(base.tasks["detect"], tensors=tiny_pack.prompt_tensors(seed))
            write_pack(tmp_path / "made", replace(base, tasks={**base.tasks, "detect": task}))
            made = cut_prompt_pack(load_pack(tmp_path / "made"), "detect")
            assert (await upload(edge, made, activate=True)).status_code == 200
        listed = [one for one in (await edge.http.get("/v1/prompts")).json() if one["task"] == "detect"]
        assert len(listed) == 3  # the pack's own, the active one, and one for the way back
        assert len(list((tmp_path / "prompts").glob("*.zip"))) == 2


async def switch_to(edge: Edge, cloud: Rig, digest: bytes) -> None:
    """Returns once the edge has followed."""
    await cloud.activate("detect", digest)
    await until(lambda: edge.pipeline.prompts.active("detect") == digest)


async def alone_with_each(edge: Edge, cloud: Rig, packs: Packs) -> dict[str, tuple[object, object]]:
    """By digest, detections and bytes of the frame of `Edge.post` when nothing else is going on.

    The prompt of `packs.first` is active afterwards.
    """
    await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
    alone = {}
    for pack in (packs.newer, packs.first):
        await switch_to(edge, cloud, wire(pack, "detect"))
        report = await edge.post("alone")
        alone[report["prompt_digest"]] = (report["detections"], report["num_bytes"])
    assert set(alone) == {wire(pack, "detect").hex() for pack in (packs.first, packs.newer)}
    assert len({str(found) for found in alone.values()}) == 2
    return alone


async def test_a_frame_held_over_a_switch_keeps_its_prompt(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    begun, go_on = threading.Event(), threading.Event()
    async with both(packs, tmp_path) as (edge, cloud):
        alone = await alone_with_each(edge, cloud, packs)
        encoder = edge.pipeline._codec.encoder
        compress = encoder.compress

        def held(*frame: object) -> object:
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return compress(*frame)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(encoder, "compress", held)
            frame = asyncio.create_task(edge.post("door"))
            try:
                assert await asyncio.to_thread(begun.wait, PATIENCE_S)
                await cloud.activate("detect", new)
                await until(lambda: edge.pipeline.prompts.active("detect") == new)
                assert not frame.done()
            finally:
                go_on.set()
            report = await frame
        assert report["prompt_digest"] == old.hex()
        assert (report["detections"], report["num_bytes"]) == alone[old.hex()]
        assert (await edge.post("door"))["prompt_digest"] == new.hex()


async def test_no_frame_mixes_prompts_while_they_are_switched(packs: Packs, tmp_path: Path) -> None:
    """Every switch waits until a frame came back with the new prompt; the cameras never pause."""
    async with both(packs, tmp_path) as (edge, cloud):
        alone = await alone_with_each(edge, cloud, packs)
        reports: list[dict[str, object]] = []
        switched = asyncio.Event()

        async def send(camera: str) -> None:
            while not switched.is_set():
                reports.append(await edge.post(camera))

        async def a_frame_with(digest: bytes) -> None:
            before = len(reports)
            await until(lambda: digest.hex() in [one["prompt_digest"] for one in reports[before:]])

        async def switch() -> None:
            try:
                for number in range(12):
                    digest = wire((packs.newer, packs.first)[number % 2], "detect")
                    await switch_to(edge, cloud, digest)
                    await a_frame_with(digest)
            finally:
                switched.set()

        await asyncio.gather(*(send(f"camera-{n}") for n in range(4)), switch())
        assert {report["prompt_digest"] for report in reports} == set(alone)
        for report in reports:
            assert (report["detections"], report["num_bytes"]) == alone[report["prompt_digest"]]

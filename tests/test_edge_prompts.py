"""Prompts on a running edge, before a real cloud: new prompts, following, ways back, no frame mixed."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pack
from cloud_prompt_rig import Rig, cloud_on, coded, harmed, wire
from edge_prompt_rig import AWAY, PATIENCE_S, Edge, Packs, both, edge_on, upload, write_packs
from waiting import until

from cloud.prompts import PromptsServicer
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.write import write_pack


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("edge-prompts"))


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
    async with edge_on(packs, tmp_path / "edge", AWAY) as edge:
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


@pytest.mark.parametrize("fault", ["a-bit", "a-message"])
async def test_a_prompt_that_was_damaged_on_its_way_to_the_edge_is_fetched_again(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    new, fetch, fetches = wire(packs.newer, "detect"), PromptsServicer.Fetch, 0
    monkeypatch.setattr("edge.follow.FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("cloud.prompts.CHUNK_BYTES", 1000)

    async def damaged(self, request, context):  # type: ignore[no-untyped-def]
        nonlocal fetches
        fetches += 1
        count = 0
        async for part in fetch(self, request, context):
            count += 1
            if fetches < 3 and count == 2:
                if fault == "a-message":
                    continue
                part.chunk = bytes([part.chunk[0] ^ 1]) + part.chunk[1:]
            yield part

    monkeypatch.setattr(PromptsServicer, "Fetch", damaged)
    async with both(packs, tmp_path) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        await until(lambda: edge.pipeline.prompts.active("detect") == new)
        assert fetches == 3
        assert (await edge.post("door"))["prompt_digest"] == new.hex()


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
    async with edge_on(packs, tmp_path / "edge", AWAY, follow_cloud_prompts=False) as edge:
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
    async with edge_on(packs, tmp_path / "edge", AWAY, **options) as edge:
        before = (await edge.http.get("/v1/prompts")).json()
        for data, status, words in cases[1:]:
            answer = await upload(edge, data, activate=True)
            assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
        assert (await edge.http.get("/v1/prompts")).json() == before
        assert not list((tmp_path / "edge" / "prompts").iterdir())
    async with edge_on(packs, tmp_path / "edge", AWAY, follow_cloud_prompts=False) as edge:
        data, status, words = cases[0]
        answer = await upload(edge, data, activate=True)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True)
        assert (await edge.http.get("/v1/prompts")).json() == before


async def test_an_edge_that_follows_its_cloud_is_not_switched_by_hand(packs: Packs, tmp_path: Path) -> None:
    async with edge_on(packs, tmp_path, AWAY) as edge:
        digest = wire(packs.first, "detect").hex()
        answer = await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": digest})
        assert (answer.status_code, "Prompts.Activate" in answer.json()["detail"]) == (409, True)
        answer = await upload(edge, cut_prompt_pack(packs.newer, "detect"), activate=True)
        assert answer.status_code == 409


async def test_old_prompts_that_no_task_uses_go_first(packs: Packs, tmp_path: Path) -> None:
    options = {"follow_cloud_prompts": False, "kept_prompts": 1}
    async with edge_on(packs, tmp_path, AWAY, **options) as edge:
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

        def held(*frame: object, **how: object) -> object:
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return compress(*frame, **how)  # type: ignore[arg-type]

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

"""One call rolls a task back, on an edge and in a cloud; a retired prompt drains before it goes."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from cloud_prompt_rig import Rig, cloud_on, coded, refused, wire
from edge_prompt_rig import AWAY, PATIENCE_S, Packs, both, edge_on, upload, write_packs
from waiting import until

from cloud.draining import Draining
from cloud.runner import ServedPrompt
from cloud.way_back import earlier_prompt
from splitcodec.errors import InvalidRequest
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.wire.v1 import prompts_pb2


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("way-back"))


async def roll_back(cloud: Rig, task: str = "detect") -> prompts_pb2.ActivatePromptResponse:
    return await cloud.prompts.Rollback(prompts_pb2.RollbackPromptRequest(task=task), timeout=PATIENCE_S)


async def retire(cloud: Rig, digest: bytes, now: bool = False) -> int:
    request = prompts_pb2.RetirePromptRequest(prompt_digest=digest, now=now)
    return (await cloud.prompts.Retire(request, timeout=PATIENCE_S)).gone_at_unix_nanos


async def state_of(cloud: Rig, digest: bytes) -> str:
    listed = await cloud.prompts.List(prompts_pb2.ListPromptsRequest(), timeout=PATIENCE_S)
    return next(one.state for one in listed.records if one.prompt_digest == digest)


async def test_an_edge_goes_back_by_one_call_even_after_a_restart(packs: Packs, tmp_path: Path) -> None:
    old, new = wire(packs.first, "detect").hex(), wire(packs.newer, "detect").hex()
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        nothing = await edge.http.post("/v1/tasks/detect/rollback")
        assert (nothing.status_code, "no earlier prompt" in nothing.json()["detail"]) == (404, True)
        await upload(edge, cut_prompt_pack(packs.newer, "detect"), activate=True)
        await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": new})  # again: no step
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        back = await edge.http.post("/v1/tasks/detect/rollback")
        assert (back.json()["prompt_digest"], back.headers["ETag"]) == (old, f'"{old}"')
        assert (await edge.active())["detect"] == old
        assert (await edge.http.post("/v1/tasks/detect/rollback")).json()["prompt_digest"] == new
    async with edge_on(packs, tmp_path, AWAY) as edge:
        assert (await edge.http.post("/v1/tasks/detect/rollback")).status_code == 409


async def test_a_cloud_goes_back_by_one_call_and_its_edges_with_it(packs: Packs, tmp_path: Path) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    async with both(packs, tmp_path) as (edge, cloud):
        code, name, why = await refused(roll_back(cloud))
        assert (code, name) == (grpc.StatusCode.NOT_FOUND, "PromptNotFound")
        assert "no earlier prompt" in why
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        await until(lambda: edge.pipeline.prompts.active("detect") == new)
        answer = await roll_back(cloud)
        assert (answer.prompt.prompt_digest, answer.replaced_digest) == (old, new)
        await until(lambda: edge.pipeline.prompts.active("detect") == old)
        await retire(cloud, new, now=True)
        assert (await refused(roll_back(cloud)))[1] == "PromptNotFound"


def test_where_a_task_has_two_codecs_the_codec_must_be_named() -> None:
    def served(codec: bytes, digest: bytes) -> ServedPrompt:
        return ServedPrompt("detect", "p", codec, digest, 3, 64, 96, (), "detect", active=False)

    prompts = [served(b"a" * 8, b"1" * 8), served(b"b" * 8, b"2" * 8)]
    previous = {(one.codec_digest, "detect"): one.prompt_digest for one in prompts}
    with pytest.raises(InvalidRequest, match="name one"):
        earlier_prompt(previous, prompts, "detect", b"")
    assert earlier_prompt(previous, prompts, "detect", b"b" * 8) == b"2" * 8


async def test_a_retired_prompt_answers_frames_until_its_time_is_up(packs: Packs, tmp_path: Path) -> None:
    new = wire(packs.newer, "detect")
    async with cloud_on(packs.first, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        gone_at = await retire(cloud, new)
        assert await retire(cloud, new) == gone_at
        assert await state_of(cloud, new) == "draining"
        assert (await cloud.infer(1, coded(packs.newer, "detect"))).prompt_digest == new
    async with cloud_on(packs.first, tmp_path) as cloud:
        assert await state_of(cloud, new) == "draining"
        assert (await cloud.infer(2, coded(packs.newer, "detect"))).prompt_digest == new
        await cloud.activate("detect", new)
        assert await state_of(cloud, new) == "active"
        await cloud.activate("detect", wire(packs.first, "detect"))
        assert await state_of(cloud, new) == "warm"
        await retire(cloud, new)
    kept = tmp_path / "prompts" / "draining.json"
    kept.write_text(json.dumps({"format": 1, "until": {new.hex(): 5.0}}))  # long ago
    async with cloud_on(packs.first, tmp_path) as cloud:

        async def is_gone() -> bool:
            return await state_of(cloud, new) == "retired"

        await until(is_gone)
        assert (await refused(cloud.infer(3, coded(packs.newer, "detect"))))[1] == "UnknownPrompt"
    assert json.loads(kept.read_text())["until"] == {}


async def test_without_time_to_drain_a_retired_prompt_is_gone(packs: Packs, tmp_path: Path) -> None:
    new = wire(packs.newer, "detect")
    async with cloud_on(packs.first, tmp_path, prompt_drain_s=0) as cloud:
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        assert await retire(cloud, new) == 0
        assert await state_of(cloud, new) == "retired"


def test_a_damaged_list_of_what_drains_keeps_everything(tmp_path: Path) -> None:
    (tmp_path / "draining.json").write_text('{"until": {"door": 1}}')
    assert Draining(tmp_path, 10.0).wait_s() is None

"""The Prompts service on real packs: publish, activate, watch, fetch and retire while frames are answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S
from cloud_prompt_rig import cloud_on, coded, packs, refused, wire

from splitcodec.packs import Pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.wire.v1 import prompts_pb2

__all__ = ["packs"]


async def test_a_published_task_is_served_at_once(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    deployed, newer = packs
    async with cloud_on(deployed, tmp_path) as cloud:
        code, name, _ = await refused(cloud.infer(1, coded(newer, "segment")))
        assert (code, name) == (grpc.StatusCode.FAILED_PRECONDITION, "UnknownPrompt")
        answer = await cloud.publish(cut_prompt_pack(newer, "segment"), activate=True)
        assert (answer.prompt.task, answer.prompt.active, answer.prompt.pack) == ("segment", True, "newer")
        assert tuple(answer.prompt.labels) == newer.task("segment").labels
        result = await cloud.infer(1, coded(newer, "segment"))
        assert result.task == "segment"
        assert result.segmentation.run_lengths
        assert cloud.swaps("ok") == 1


async def test_the_prompt_before_stays_decodable_and_can_come_back(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, newer = packs
    old, new = wire(deployed, "detect"), wire(newer, "detect")
    async with cloud_on(deployed, tmp_path) as cloud:
        published = await cloud.publish(cut_prompt_pack(newer, "detect"))
        assert (published.prompt.active, published.replaced_digest) == (False, b"")
        assert (await cloud.activate("detect", new)).replaced_digest == old
        for seq, pack in enumerate((deployed, newer)):
            result = await cloud.infer(seq, coded(pack, "detect"))
            assert result.prompt_digest == wire(pack, "detect")
        assert (await cloud.activate("detect", old)).replaced_digest == new
        assert await cloud.state() == {
            old.hex(): ("detect", True, False),
            new.hex(): ("detect", False, True),
        }


async def test_published_and_active_prompts_survive_a_restart(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, newer = packs
    async with cloud_on(deployed, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(newer, "detect"), activate=True)
        await cloud.publish(cut_prompt_pack(newer, "classify"))
        before = await cloud.state()
    (tmp_path / "prompts" / "half.draft").write_bytes(b"arriving")
    async with cloud_on(deployed, tmp_path) as cloud:
        assert {digest: row[0] for digest, row in (await cloud.state()).items()} == {
            digest: row[0] for digest, row in before.items()
        }
        assert (await cloud.state())[wire(newer, "detect").hex()] == ("detect", True, True)
        assert (await cloud.state())[wire(deployed, "detect").hex()] == ("detect", False, False)
        assert (await cloud.infer(1, coded(newer, "classify"))).classification.classes
    assert not list((tmp_path / "prompts").glob("*.draft"))


async def test_a_damaged_pack_on_the_shelf_is_left_out_and_the_rest_serves(
    packs: tuple[Pack, Pack], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployed, newer = packs
    async with cloud_on(deployed, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(newer, "detect"), activate=True)
        await cloud.publish(cut_prompt_pack(newer, "classify"))
    place = tmp_path / "prompts" / f"{newer.prompt('detect').digest}.zip"
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    async with cloud_on(deployed, tmp_path) as cloud:
        state = await cloud.state()
        assert state[wire(deployed, "detect").hex()] == ("detect", True, False)
        assert wire(newer, "classify").hex() in state
        assert wire(newer, "detect").hex() not in state
    assert "a published prompt is not served" in caplog.text


async def test_a_retired_prompt_is_gone_for_good(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    deployed, newer = packs
    digest = wire(newer, "detect")
    async with cloud_on(deployed, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(newer, "detect"), activate=True)
        retire = prompts_pb2.RetirePromptRequest(prompt_digest=digest, now=True)
        code, name, why = await refused(cloud.prompts.Retire(retire, timeout=PATIENCE_S))
        assert (code, name) == (grpc.StatusCode.FAILED_PRECONDITION, "PromptStateError")
        assert "activate another one first" in why
        await cloud.activate("detect", wire(deployed, "detect"))
        await cloud.prompts.Retire(retire, timeout=PATIENCE_S)
        assert set(await cloud.state()) == {wire(deployed, "detect").hex()}
        _, name, _ = await refused(cloud.infer(1, coded(newer, "detect")))
        assert name == "UnknownPrompt"
        own = prompts_pb2.RetirePromptRequest(prompt_digest=wire(deployed, "detect"))
        _, name, why = await refused(cloud.prompts.Retire(own, timeout=PATIENCE_S))
        assert (name, "stays with it" in why) == ("PromptStateError", True)
    async with cloud_on(deployed, tmp_path) as cloud:
        assert set(await cloud.state()) == {wire(deployed, "detect").hex()}


async def test_publishing_again_changes_nothing(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    deployed, newer = packs
    async with cloud_on(deployed, tmp_path, max_published_prompts=1) as cloud:
        for _ in range(2):
            await cloud.publish(cut_prompt_pack(newer, "detect"))
        code, name, why = await refused(cloud.publish(cut_prompt_pack(newer, "classify")))
        assert (code, name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooManyPrompts")
        assert "the limit is 1" in why
        await cloud.publish(cut_prompt_pack(deployed, "detect"))
        assert len(await cloud.state()) == 2


async def test_watchers_see_every_change_and_can_fetch_what_they_see(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, newer = packs
    async with cloud_on(deployed, tmp_path) as cloud:
        watch = cloud.prompts.Watch(prompts_pb2.WatchPromptsRequest(), timeout=PATIENCE_S)
        assert [one.task for one in (await watch.read()).prompts] == ["detect"]
        made = cut_prompt_pack(newer, "detect")
        await cloud.publish(made, activate=True)
        active: set[bytes] = set()
        while active != {wire(newer, "detect")}:
            active = {one.prompt_digest for one in (await watch.read()).prompts if one.active}
        for pack, expected in ((newer, made), (deployed, cut_prompt_pack(deployed, "detect"))):
            request = prompts_pb2.FetchPromptRequest(prompt_digest=wire(pack, "detect"))
            parts = [part async for part in cloud.prompts.Fetch(request, timeout=PATIENCE_S)]
            assert b"".join(part.chunk for part in parts) == expected
            assert parts[0].size == len(expected)
        watch.cancel()


async def test_watchers_end_when_the_service_stops(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    async with cloud_on(packs[0], tmp_path) as cloud:
        watch = cloud.prompts.Watch(prompts_pb2.WatchPromptsRequest(), timeout=PATIENCE_S)
        await watch.read()
        ended = asyncio.create_task(refused(watch.read()))
        await cloud.server.stop()
        code, name, _ = await ended
        assert (code, name) == (grpc.StatusCode.UNAVAILABLE, "ServiceStopping")

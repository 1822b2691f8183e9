"""Prompt packs and requests that the Prompts service refuses: nothing changes, and the answer says why."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import tiny_pack
from cloud_helpers import PATIENCE_S, running
from cloud_prompt_rig import Rig, cloud_on, coded, harmed, packs, refused, wire

from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.sign import sign_pack
from splitcodec.packs.write import write_pack
from splitcodec.signing import SigningKey, TrustStore
from splitcodec.signing.memory import VersionMemory
from splitcodec.wire.v1 import prompts_pb2

__all__ = ["packs"]


async def test_a_bad_prompt_pack_is_refused_and_nothing_changes(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, newer = packs
    sound = cut_prompt_pack(newer, "detect")
    cases = {
        "InvalidPrompt": harmed(newer, tmp_path, "g_a.conv0.weight", np.nan),
        "InexactScaleBranch": harmed(newer, tmp_path, "h_s_scale.conv0.weight", 0.5),
        "SigmaIndexMismatch": harmed(newer, tmp_path, "h_s_scale.conv0.bias", 1.0),
        "PackDamaged": b"no zip at all",
    }
    async with cloud_on(deployed, tmp_path / "data") as cloud:
        before = await cloud.state()
        for expected, data in cases.items():
            _, name, why = await refused(cloud.publish(data, activate=True))
            assert name == expected, why
        code, name, _ = await refused(cloud.publish(sound, sha256=bytes(32)))
        assert (code, name) == (grpc.StatusCode.INVALID_ARGUMENT, "PackDamaged")
        _, name, _ = await refused(cloud.publish(sound, size=len(sound) - 1))
        assert name == "InvalidRequest"
        assert await cloud.state() == before
        assert (await cloud.infer(1, coded(deployed, "detect"))).task == "detect"
        assert not list((tmp_path / "data" / "prompts").iterdir())


async def test_a_tail_that_does_not_fit_its_postprocess_is_refused(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    base = tiny_pack.contents()
    write_pack(
        tmp_path / "other",
        replace(base, tasks={"detect": replace(base.tasks["detect"], postprocess="classify")}),
    )
    async with cloud_on(packs[1], tmp_path / "data") as cloud:
        code, name, why = await refused(
            cloud.publish(cut_prompt_pack(load_pack(tmp_path / "other"), "detect"))
        )
        assert (code, name) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidPrompt")
        assert "the prompts in use stay" in why


async def test_prompt_for_another_codec_is_refused(
    packs: tuple[Pack, Pack], default_pack: Pack, tmp_path: Path
) -> None:
    async with cloud_on(packs[0], tmp_path) as cloud:
        code, name, why = await refused(cloud.publish(cut_prompt_pack(default_pack, "detect")))
        assert (code, name) == (grpc.StatusCode.FAILED_PRECONDITION, "PackMismatch")
        assert default_pack.codec_digest[:16] in why


async def test_oversize_prompt_pack_is_refused_before_it_is_read(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    data = cut_prompt_pack(packs[1], "detect")
    async with cloud_on(packs[0], tmp_path, max_prompt_bytes=len(data) - 1) as cloud:
        code, name, why = await refused(cloud.publish(data))
        assert (code, name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "PackTooLarge")
        assert f"the limit is {len(data) - 1}" in why


async def test_upload_that_stalls_makes_room_for_the_next(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    data = cut_prompt_pack(packs[1], "detect")
    header = prompts_pb2.PublishPromptHeader(size=len(data), sha256=hashlib.sha256(data).digest())
    async with cloud_on(packs[0], tmp_path, publish_timeout_s=3.0) as cloud:  # the next one has so long
        call = cloud.prompts.Publish(timeout=PATIENCE_S)
        await call.write(prompts_pb2.PublishPromptRequest(header=header))
        code, name, _ = await refused(call)
        assert (code, name) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DeadlineExceeded")
        await cloud.publish(data)


async def test_wrong_requests_say_what_is_there(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    deployed, _ = packs
    async with cloud_on(deployed, tmp_path) as cloud:
        code, name, why = await refused(cloud.activate("detect", bytes(8)))
        assert (code, name) == (grpc.StatusCode.NOT_FOUND, "PromptNotFound")
        assert f"{wire(deployed, 'detect').hex()} (detect)" in why
        code, name, why = await refused(cloud.activate("segment", wire(deployed, "detect")))
        assert (code, name) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
        code, name, why = await refused(cloud.activate("detect", b"short"))
        assert (code, name, why) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "InvalidRequest",
            "prompt_digest has 5 bytes, it must have 8",
        )
        assert cloud.swaps("PromptNotFound") == 1


async def test_networks_that_take_no_prompts_say_so(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        rig = Rig(cloud.server, cloud.prompts, cloud.ingest, cloud.registry)
        code, name, _ = await refused(rig.publish(cut_prompt_pack(packs[0], "detect")))
        assert (code, name) == (grpc.StatusCode.FAILED_PRECONDITION, "PromptStateError")


async def test_where_signatures_are_required_only_signed_prompts_come_in(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, newer = packs
    key, keys = SigningKey.generate(), tmp_path / "trusted"
    keys.mkdir()
    (keys / "maker.pub").write_bytes(key.public.pem())

    def trust() -> TrustStore:
        return TrustStore(keys, VersionMemory(tmp_path / "memory.json"), required=True)

    def signed(pack: Pack, version: int) -> bytes:
        place = tmp_path / "signed.zip"
        place.write_bytes(cut_prompt_pack(pack, "detect"))
        sign_pack(place, [key], version)
        return place.read_bytes()

    second = signed(newer, 2)
    async with cloud_on(deployed, tmp_path / "data", trust()) as cloud:
        before = await cloud.state()
        code, name, _ = await refused(cloud.publish(cut_prompt_pack(newer, "detect")))
        assert (code, name) == (grpc.StatusCode.PERMISSION_DENIED, "Unsigned")
        assert await cloud.state() == before
        await cloud.publish(second, activate=True)
        _, name, _ = await refused(cloud.publish(signed(newer, 1)))
        assert name == "RolledBack"
    async with cloud_on(deployed, tmp_path / "data", trust()) as cloud:
        assert (await cloud.state())[wire(newer, "detect").hex()] == ("detect", True, True)
        assert (await cloud.activate("detect", wire(deployed, "detect"))).prompt.active

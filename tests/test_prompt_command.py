"""`splitcodec prompt` and PromptAdmin against a real cloud."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pack
from cloud_prompt_rig import cloud_on, wire
from typer.testing import CliRunner, Result

from splitcodec.cli import app
from splitcodec.client.prompt_admin import PromptAdmin
from splitcodec.errors import InvalidRequest, PackDamaged, PackNotFound, PromptNotFound, PromptStateError
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.write import write_pack


@pytest.fixture(scope="module")
def newer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompt-command") / "newer"


@pytest.fixture(scope="module")
def packs(newer_folder: Path) -> tuple[Pack, Pack]:
    """The pack that is deployed, and one with another `detect`."""
    deployed = tiny_pack.write_tiny_pack(newer_folder.parent / "deployed")
    base = tiny_pack.contents()
    task = replace(base.tasks["detect"], tensors=tiny_pack.prompt_tensors(4))
    write_pack(newer_folder, replace(base, name="newer", tasks={"detect": task}))
    return deployed, load_pack(newer_folder)


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["prompt", *words])


async def test_publish_activate_go_back_and_retire(
    packs: tuple[Pack, Pack], newer_folder: Path, tmp_path: Path
) -> None:
    deployed, newer = packs
    old, new = wire(deployed, "detect").hex(), wire(newer, "detect").hex()
    place, folder = tmp_path / "detect.zip", str(newer_folder)
    cut = CliRunner().invoke(app, ["pack", "prompt", folder, "--task", "detect", "--out", str(place)])
    assert cut.output == (f"wrote {place}: task detect, prompt digest {new}, {place.stat().st_size} bytes\n")
    async with cloud_on(deployed, tmp_path / "data") as cloud:
        at = f"--cloud=127.0.0.1:{cloud.server.grpc_port}"
        assert (await run("push", str(place), at)).output == f"cloud: prompt {new} of task detect is warm\n"
        published = await run("publish", str(place), "--activate", at)
        changed = "cloud: prompt {} of task detect is active, before it {}\n"
        assert published.output == changed.format(new, old)
        listed = await run("list", at)
        assert sorted(line.split() for line in listed.output.splitlines()) == sorted(
            [
                ["detect", new, "active", "published", "newer"],
                ["detect", old, "warm", "with", "the", "pack", "tiny"],
            ]
        )
        back = await run("activate", "detect", old, at)
        assert back.output == changed.format(old, new)
        assert (await run("rollback", "detect", at)).output == changed.format(new, old)
        assert (await run("rollback", "detect", at)).output == changed.format(old, new)
        assert (await run("retire", new, "--now", at)).output == f"prompt {new} is retired\n"
        states = [line.split()[1:3] for line in (await run("list", at)).output.splitlines()]
        assert sorted(states) == sorted([[old, "active"], [new, "retired"]])


async def test_retiring_says_until_when_the_prompt_answers(
    packs: tuple[Pack, Pack], newer_folder: Path, tmp_path: Path
) -> None:
    deployed, newer = packs
    place = tmp_path / "detect.zip"
    place.write_bytes(cut_prompt_pack(newer, "detect"))
    async with cloud_on(deployed, tmp_path / "data") as cloud:
        at = f"--cloud=127.0.0.1:{cloud.server.grpc_port}"
        await run("push", str(place), at)
        said = (await run("retire", wire(newer, "detect").hex(), at)).output
        assert " drains until 20" in said


async def test_what_the_cloud_refuses_is_raised_by_its_class(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    deployed, _ = packs
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    async with cloud_on(deployed, tmp_path / "data") as cloud:

        def work() -> None:
            with PromptAdmin(f"127.0.0.1:{cloud.server.grpc_port}") as admin:
                with pytest.raises(PackDamaged):
                    admin.publish(tmp_path / "broken.zip")
                with pytest.raises(PromptNotFound):
                    admin.activate("detect", "00" * 8)
                with pytest.raises(PromptStateError, match="stays with it"):
                    admin.retire(deployed.prompt("detect").digest)
                with pytest.raises(InvalidRequest, match="no digest in hex"):
                    admin.retire("door")
                with pytest.raises(PackNotFound):
                    admin.publish(tmp_path / "none.zip")

        await asyncio.to_thread(work)

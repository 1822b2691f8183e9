"""What devices tell a cloud of their prompts, and the line for each that an operator sees."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import uvicorn
from cloud_access_rig import add_token, bearer, code_of, guarded
from cloud_prompt_rig import Rig, cloud_on, refused, wire
from edge_prompt_rig import AWAY, PATIENCE_S, Edge, Packs, both, edge_on, write_packs
from typer.testing import CliRunner, Result
from waiting import until

from cloud.followers import MAX_DEVICES, Followers
from edge.app import create_app
from splitcodec.cli import app
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.wire.v1 import prompts_pb2


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("rollout"))


@pytest.fixture
def place(packs: Packs, tmp_path: Path) -> Path:
    """The prompt pack of the newer `detect`."""
    (tmp_path / "newer.zip").write_bytes(cut_prompt_pack(packs.newer, "detect"))
    return tmp_path / "newer.zip"


async def run(*words: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["prompt", *map(str, words)])


def at(cloud: Rig) -> str:
    return f"--cloud=127.0.0.1:{cloud.server.grpc_port}"


async def heard(cloud: Rig) -> dict[str, dict[bytes, str]]:
    """device -> digest -> state."""
    answer = await cloud.prompts.ListDevices(prompts_pb2.ListPromptDevicesRequest(), timeout=PATIENCE_S)
    return {
        one.device: {record.prompt_digest: record.state for record in one.records} for one in answer.devices
    }


async def confirm(cloud: Rig, prompts: prompts_pb2.DevicePrompts) -> None:
    request = prompts_pb2.ConfirmPromptsRequest(prompts=prompts)
    await cloud.prompts.Confirm(request, timeout=PATIENCE_S)


async def test_each_device_has_a_line_when_it_has_changed_over(
    packs: Packs, place: Path, tmp_path: Path
) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    async with both(packs, tmp_path) as (edge, cloud):

        async def is_heard() -> bool:
            return (await heard(cloud)).get("box-1", {}).get(old) == "active"

        await until(is_heard)
        said = await run("push", place, "--activate", at(cloud))
        assert said.output.splitlines() == [
            f"cloud: prompt {new.hex()} of task detect is active, before it {old.hex()}",
            "box-1: active",
        ]
        assert edge.pipeline.prompts.active("detect") == new
        listed = (await run("list", at(cloud))).output
        assert f"box-1: {'detect':<16}{new.hex()}  active" in listed
        back = await run("rollback", "detect", at(cloud))
        assert (back.exit_code, back.output.splitlines()[1:]) == (0, ["box-1: active"])
        assert edge.pipeline.prompts.active("detect") == old


async def test_a_device_that_cannot_use_it_says_why(packs: Packs, place: Path, tmp_path: Path) -> None:
    async with both(packs, tmp_path, max_prompt_bytes=1024) as (_, cloud):

        async def is_heard() -> bool:
            return bool(await heard(cloud))

        await until(is_heard)
        said = await run("push", place, "--activate", at(cloud))
        assert (said.exit_code, "box-1: failed: prompt " in said.output) == (1, True)
        assert "the limit is 1024" in said.output


async def test_a_device_that_is_away_is_named_and_gets_it_when_it_is_back(
    packs: Packs, place: Path, tmp_path: Path
) -> None:
    async with cloud_on(packs.first, tmp_path / "cloud") as cloud:
        codec = bytes.fromhex(packs.first.codec_digest)[:8]
        other = prompts_pb2.DevicePrompts(device="box-9", codec_digest=bytes(8))
        await confirm(cloud, other)  # of another codec: it is not waited for
        await confirm(cloud, prompts_pb2.DevicePrompts(device="box-1", codec_digest=codec))
        said = await run("push", place, "--activate", "--wait=0", at(cloud))
        assert said.exit_code == 0
        assert said.output.splitlines()[1].startswith("box-1: not yet, last heard 20")
        assert len(said.output.splitlines()) == 2
        target = f"127.0.0.1:{cloud.server.grpc_port}"
        new = wire(packs.newer, "detect")
        async with edge_on(packs, tmp_path / "edge", target):

            async def is_there() -> bool:
                return (await heard(cloud))["box-1"].get(new) == "active"

            await until(is_there)


async def test_what_a_device_tells_is_checked(packs: Packs, tmp_path: Path) -> None:
    async with cloud_on(packs.first, tmp_path) as cloud:
        wrong = [
            prompts_pb2.DevicePrompts(device="a b", codec_digest=bytes(8)),
            prompts_pb2.DevicePrompts(device="box-1", codec_digest=b"short"),
            prompts_pb2.DevicePrompts(
                device="box-1",
                codec_digest=bytes(8),
                records=[prompts_pb2.PromptRecord(prompt_digest=b"short")],
            ),
        ]
        for prompts in wrong:
            code, name, _ = await refused(confirm(cloud, prompts))
            assert (code, name) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
        assert await heard(cloud) == {}


async def test_a_device_tells_of_itself_alone(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (cloud, tokens):
        own = bearer(add_token(tokens, "frames", device="box-1"))
        for device, expected in (("box-1", grpc.StatusCode.OK), ("box-2", grpc.StatusCode.PERMISSION_DENIED)):
            told = prompts_pb2.DevicePrompts(device=device, codec_digest=bytes(8))
            request = prompts_pb2.ConfirmPromptsRequest(prompts=told)
            call = cloud.prompts.Confirm(request, metadata=own, timeout=PATIENCE_S)
            assert await code_of(call) == expected
        operator = bearer(add_token(tokens, "prompts"))
        asked = prompts_pb2.ListPromptDevicesRequest()
        heard = await cloud.prompts.ListDevices(asked, metadata=operator, timeout=PATIENCE_S)
        assert [one.device for one in heard.devices] == ["box-1"]


def test_the_devices_heard_last_are_kept() -> None:
    followers = Followers(clock=lambda: 7.0)
    for number in range(MAX_DEVICES + 1):
        followers.confirm(prompts_pb2.DevicePrompts(device=f"box-{number:05}", codec_digest=bytes(8)))
    kept = followers.devices()
    assert (len(kept), kept[0].device, kept[0].told_unix_nanos) == (MAX_DEVICES, "box-00001", 7 * 10**9)


@asynccontextmanager
async def listening(edge: Edge) -> AsyncIterator[str]:
    """The edge's interface on a port of this machine; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = uvicorn.Config(create_app(edge.pipeline), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[taken]))
        await until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def test_the_same_commands_change_one_edge(packs: Packs, place: Path, tmp_path: Path) -> None:
    old, new = wire(packs.first, "detect").hex(), wire(packs.newer, "detect").hex()
    async with (
        edge_on(packs, tmp_path / "edge", AWAY, follow_cloud_prompts=False) as edge,
        listening(edge) as url,
    ):
        told = url + ": prompt {} of task detect is {}\n"
        assert (await run("push", place, f"--edge={url}")).output == told.format(new, "warm")
        assert (await run("activate", "detect", new, f"--edge={url}")).output == told.format(new, "active")
        listed = [line.split() for line in (await run("list", f"--edge={url}")).output.splitlines()]
        assert ["detect", new, "active"] in listed
        assert ["detect", old, "warm"] in listed
        assert (await run("rollback", "detect", f"--edge={url}")).output == told.format(old, "active")
        assert (await run("retire", new, f"--edge={url}")).output == f"prompt {new} is retired\n"
        gone = await run("activate", "detect", new, f"--edge={url}")
        assert "PromptNotFound" in type(gone.exception).__name__

"""`splitcodec doctor --edge`: what is wrong with a running edge."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from cloud_helpers import running
from edge_rig import EdgeRig, edge_rig, tiny_codec
from http_rig import serving
from typer.testing import CliRunner
from waiting import until

from edge.app import create_app
from edge.codec import Codec
from splitcodec.cli import app
from splitcodec.client import AsyncEdgeClient, Readiness
from splitcodec.edge_doctor import EdgeHealth, examine_edge, troubles


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


async def asked(rig: EdgeRig) -> EdgeHealth:
    async with serving(create_app(rig.pipeline)) as url:
        return await asyncio.to_thread(examine_edge, url)


async def readiness(rig: EdgeRig) -> Readiness:
    async with serving(create_app(rig.pipeline)) as url, AsyncEdgeClient(url) as client:
        return await client.ready()


async def test_an_edge_that_delivers_is_well(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        await rig.post()
        health = await asked(rig)
    assert health.ok, health.lines
    assert health.lines[-1] == "all is well"
    assert any("spool: 0 frames" in line for line in health.lines)
    assert any("last error of the link: none" in line for line in health.lines)


async def test_an_edge_without_a_cloud_names_the_error_and_what_waits(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, cloud_target="127.0.0.1:1", deadline_s=0.5) as rig:
        await rig.post(wait=0)
        await until(lambda: "cannot be reached" in rig.pipeline.readiness().cloud.note)
        health = await asked(rig)
    assert not health.ok
    text = "\n".join(health.lines)
    assert "PROBLEM: no frames flow to 127.0.0.1:1" in text
    assert "spool: 1 frames" in text
    assert "cannot be reached" in text


async def test_the_clocks_are_compared(codec: Codec, tmp_path: Path) -> None:
    async with (
        running(tmp_path / "cloud") as cloud,
        edge_rig(codec, tmp_path / "edge", cloud_target=f"127.0.0.1:{cloud.server.grpc_port}") as rig,
    ):
        await until(lambda: not rig.pipeline.readiness().cloud.note)
        ready = await readiness(rig)
    assert ready.cloud.clock_offset_s is not None
    assert list(troubles(ready)) == []
    for offset in (-3600.0, 86_400.0):
        wrong = dataclasses.replace(ready, cloud=dataclasses.replace(ready.cloud, clock_offset_s=offset))
        (trouble,) = troubles(wrong)
        assert f"{offset:+,.1f} s" in str(trouble)


async def test_a_cloud_that_tells_no_time_leaves_the_offset_open(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        await rig.post()
        assert (await readiness(rig)).cloud.clock_offset_s is None


async def test_a_frame_that_waits_though_the_link_is_up_and_a_bad_disk_are_troubles(
    codec: Codec, tmp_path: Path
) -> None:
    async with edge_rig(codec, tmp_path, deadline_s=600) as rig:
        await rig.post()
        ready = await readiness(rig)
    spool = dataclasses.replace(ready.spool, oldest_s=600.0, note="the spool was damaged")
    found = [str(one) for one in troubles(dataclasses.replace(ready, spool=spool, ready=False))]
    assert len(found) == 3
    assert any("600 s" in one for one in found)


def test_no_edge_is_a_problem_and_a_failure() -> None:
    found = CliRunner().invoke(app, ["doctor", "--edge", "http://127.0.0.1:1"])
    assert found.exit_code != 0
    assert "PROBLEM: EdgeUnavailable" in found.output
    assert "PROBLEM: SettingsError" in CliRunner().invoke(app, ["doctor", "--edge", "nowhere"]).output

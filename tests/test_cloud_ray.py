"""The networks on a real Ray cluster of this machine, behind the gRPC server, as a user starts them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tiny_pack import noise_canvas, write_three_tasks

from splitcodec.codec import FeatureEncoder
from splitcodec.packs import Pack
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest, StreamRequest, StreamResponse
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub
from splitcodec.wire.v1.results_pb2 import FrameKey, TaskResult

pytest.importorskip("ray", reason="Ray is not installed: pip install splitcodec[scale]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

START_S = 300.0
PATIENCE_S = 240.0
FRAMES = 120
KILL_AFTER = {20: "decoder-", 60: "tail-detect"}  # acked frames -> the replica that dies then
PER_RUN = ("received_time_unix_nanos", "finished_time_unix_nanos", "stage_seconds", "cursor")


@dataclass(frozen=True)
class Cloud:
    """A cloud process that listens."""

    process: subprocess.Popen[str]
    target: str
    folder: Path


@dataclass(frozen=True)
class World:
    """A pack of three tasks, frames for each, and two clouds that serve it: plainly, and on Ray."""

    frames: dict[str, list[bytes]]
    plain: Cloud
    ray: Cloud


@contextmanager
def cloud_process(folder: Path, pack: Path, *flags: str) -> Iterator[Cloud]:
    """`python -m cloud` on free ports until the block ends."""
    folder.mkdir()
    command = [sys.executable, "-m", "cloud", "--port=0", "--metrics-port=0", f"--packs={pack}"]
    command += [f"--data-dir={folder / 'data'}", "--engine=ort-cpu", "--score-threshold=0", *flags]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            yield Cloud(process, f"127.0.0.1:{json.loads(line)['grpc_port']}", folder)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE_S)


def encoded(pack: Pack) -> dict[str, list[bytes]]:
    """Four bitstreams of each task, of two network sizes."""
    encoder = FeatureEncoder(pack, engine="ort-cpu")
    return {
        task: [
            encoder.compress(
                noise_canvas(64, 96 if seed % 2 else 64, seed), pack.prompt(task), 1.0, (64, 64)
            ).data
            for seed in range(4)
        ]
        for task in pack.tasks
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("ray")
    pack = write_three_tasks(folder / "pack")
    on_ray = ("--ray=local", "--ray-cpus=0.2", f"--ray-patience-s={PATIENCE_S}")
    with (
        cloud_process(folder / "plain", folder / "pack") as plain,
        cloud_process(folder / "ray", folder / "pack", *on_ray) as ray,
    ):
        yield World(encoded(pack), plain, ray)


@asynccontextmanager
async def channel_to(cloud: Cloud) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(cloud.target, options=client_options()) as channel:
        yield channel


def frame(seq: int, task: str, bitstream: bytes, camera: str = "door") -> Frame:
    key = FrameKey(device="box", camera=camera, seq=seq)
    return Frame(key=key, capture_time_unix_nanos=seq + 1, task=task, bitstream=bitstream)


def answer_bytes(result: TaskResult) -> bytes:
    """The result without what says when and how fast it was made."""
    same = TaskResult()
    same.CopyFrom(result)
    for field in PER_RUN:
        same.ClearField(field)
    return same.SerializeToString(deterministic=True)


async def answers(cloud: Cloud, frames: list[Frame]) -> list[bytes]:
    """All frames at once, so that batches form."""
    async with channel_to(cloud) as channel:
        ingest = FeatureIngestStub(channel)
        calls = [ingest.Infer(InferRequest(frame=one), timeout=PATIENCE_S) for one in frames]
        return [answer_bytes(response.result) for response in await asyncio.gather(*calls)]


async def refusal(cloud: Cloud, one: Frame) -> tuple[grpc.StatusCode, str | None]:
    async with channel_to(cloud) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FeatureIngestStub(channel).Infer(InferRequest(frame=one), timeout=PATIENCE_S)
    return caught.value.code(), caught.value.details()


def replicas(cloud: Cloud, part: str = "") -> set[int]:
    """Process ids of the cloud's replicas whose deployment's name begins with `part`."""
    title = f"ray::ServeReplica:splitcodec:{part}".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            ours = f"RAY_TMPDIR={cloud.folder}\0".encode() in (folder / "environ").read_bytes()
            if ours and (folder / "cmdline").read_bytes().startswith(title):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


async def test_results_are_byte_for_byte_those_of_one_process(world: World) -> None:
    frames = [
        frame(seq, task, own[seq % 4], camera=f"cam-{task}-{seq}")
        for task, own in world.frames.items()
        for seq in range(8)
    ]
    assert await answers(world.ray, frames) == await answers(world.plain, frames)


async def test_prompts_and_refusals_are_those_of_one_process(world: World) -> None:
    damaged = bytearray(world.frames["detect"][0])
    damaged[-6] ^= 0xFF
    bad = [
        frame(900, "detect", bytes(damaged)),
        frame(901, "classify", world.frames["detect"][0]),
        frame(902, "", b""),
    ]
    for one in bad:
        assert await refusal(world.ray, one) == await refusal(world.plain, one)
    lists = []
    for cloud in (world.ray, world.plain):
        async with channel_to(cloud) as channel:
            lists.append(await PromptsStub(channel).List(ListPromptsRequest(), timeout=PATIENCE_S))
    assert lists[0] == lists[1]
    assert len(lists[0].prompts) == 3


async def test_replicas_killed_under_load_lose_no_frame(world: World) -> None:
    tasks = ["detect", "classify"]
    sent = [
        frame(seq, tasks[seq % 2], world.frames[tasks[seq % 2]][seq % 4], camera="yard")
        for seq in range(FRAMES)
    ]
    expected = await answers(world.plain, sent)
    results: list[TaskResult] = []
    due = dict(KILL_AFTER)
    killed: set[int] = set()
    async with channel_to(world.ray) as channel:
        call = FeatureIngestStub(channel).Stream(
            iter([StreamRequest(frame=one) for one in sent]), timeout=2 * PATIENCE_S
        )
        responses: AsyncIterator[StreamResponse] = call
        async for response in responses:
            assert not response.rejections
            results.extend(response.results)
            for after in [after for after in due if len(results) >= after]:
                victims = replicas(world.ray, due.pop(after))
                assert victims
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
                killed |= victims
        assert await call.code() is grpc.StatusCode.OK
    assert not due
    assert [result.key.seq for result in results] == list(range(FRAMES))
    assert [answer_bytes(result) for result in results] == expected
    assert len({result.cursor for result in results}) == FRAMES
    assert not killed & replicas(world.ray)


async def test_sigterm_ends_the_server_and_its_cluster(world: World) -> None:
    assert replicas(world.ray)
    world.ray.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(world.ray.process.wait, PATIENCE_S) == 0
    assert not replicas(world.ray)

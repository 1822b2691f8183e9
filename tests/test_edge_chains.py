"""Cameras whose frames hold cells, from pictures to the results of a real cloud: nothing is lost, and nothing
is built on a frame that may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import tiny_pack
from edge_rig import JPEG_TYPE, fake_cloud
from PIL import Image
from prometheus_client import CollectorRegistry

from cloud.packs import PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from edge.__main__ import build_codec
from edge.app import create_app
from edge.codec import Codec
from edge.metrics import EdgeMetrics
from edge.pipeline import EdgePipeline, open_pipeline
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.packs import load_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import ResultLimits

PATIENCE_S = 30.0
KEYS = "splitcodec_edge_key_frames_total"
FRAMES = "splitcodec_edge_chain_frames_total"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "holding"
    write_pack(folder, tiny_pack.holding())
    return folder


@pytest.fixture(scope="module")
def holding(place: Path) -> Codec:
    return build_codec(EdgeSettings(pack=str(place), threads=1))


def view(step: int) -> bytes:
    """What a camera sees that stands still: a square moves."""
    seen = np.random.default_rng(0).integers(40, 90, (120, 200, 3), dtype=np.uint8)
    seen[40:72, 8 * step % 160 : 8 * step % 160 + 32] = 230
    buffer = BytesIO()
    Image.fromarray(seen).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@dataclass
class Edge:
    http: httpx.AsyncClient
    pipeline: EdgePipeline
    registry: CollectorRegistry

    async def post(self, step: int, **params: object) -> httpx.Response:
        return await self.http.post("/v1/frames", content=view(step), params=params, headers=JPEG_TYPE)

    def count(self, name: str, **labels: str) -> int:
        return int(self.registry.get_sample_value(name, labels) or 0)

    def kinds(self) -> tuple[int, int]:
        """Key frames, and frames that hold cells."""
        return self.count(FRAMES, kind="key"), self.count(FRAMES, kind="held")

    async def settled(self) -> None:
        """Until the cloud has everything."""
        outbox = self.pipeline._outbox
        while not outbox.empty:
            outbox.moved.clear()
            await asyncio.wait_for(outbox.moved.wait(), PATIENCE_S)


@asynccontextmanager
async def edge(codec: Codec, folder: Path, target: str, **options: object) -> AsyncIterator[Edge]:
    settings = EdgeSettings(cloud_target=target, state_dir=folder, device="box", **{"hold": "on", **options})
    uplink, state = GrpcUplink(settings), EdgeState(settings.state_dir, settings.device)
    registry = CollectorRegistry()
    async with open_pipeline(settings, codec, uplink, state, EdgeMetrics(registry)) as pipeline:
        transport = httpx.ASGITransport(create_app(pipeline), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
            yield Edge(http, pipeline, registry)
    await uplink.close()
    state.close()


@asynccontextmanager
async def cloud(folder: Path, place: Path, port: int = 0) -> AsyncIterator[CloudServer]:
    runner = PackRunner([load_pack(place)], "ort-cpu", 1, ResultLimits(0.0, 1000, 5))
    settings = CloudSettings(port=port, metrics_port=0, data_dir=folder)
    async with CloudServer(settings, runner, CollectorRegistry()) as server:
        yield server


def at(server: CloudServer) -> str:
    return f"127.0.0.1:{server.grpc_port}"


async def stored(server: CloudServer) -> list[int]:
    """The seqs of the results in the store, in the order they were committed."""
    from cloud.reads import Filter

    page = await server._results.read(Filter(), 0, 1000)
    return [result.key.seq for result in page.results]


async def connected(one: Edge) -> None:
    """Until the edge knows what the cloud can decode."""
    outbox = one.pipeline._outbox
    while outbox.why_away:
        outbox._changed.clear()
        await asyncio.wait_for(outbox._changed.wait(), PATIENCE_S)


async def test_a_camera_that_stands_still_sends_one_whole_frame_and_then_what_changes(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with cloud(tmp_path / "cloud", place) as server:
        target = at(server)
        async with edge(holding, tmp_path / "edge", target) as one:
            await connected(one)
            reports = [(await one.post(step)).json() for step in range(6)]
            assert one.kinds() == (1, 5)
            assert one.count(KEYS, reason="first") == 1
            listed = (await one.http.get("/v1/frames")).json()
            assert [frame["held"] is None for frame in listed] == [*[False] * 5, True]
            assert all(0 <= frame["held"] <= 1 for frame in listed[:-1])
            assert one.count("splitcodec_edge_held_cells_ratio_count") == 5
            assert one.count("splitcodec_edge_chain_bytes_total", kind="held") == sum(
                report["num_bytes"] for report in reports[1:]
            )
        async with edge(holding, tmp_path / "whole", target, hold="off") as other:
            await connected(other)
            whole = (await other.post(0)).json()
            assert other.kinds() == (0, 0)
        assert whole["detections"] == reports[0]["detections"]
        assert await stored(server) == [*(report["seq"] for report in reports), whole["seq"]]


async def test_key_frames_come_when_due_and_when_something_else_is_asked_for(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with cloud(tmp_path / "cloud", place) as server:
        target = at(server)
        async with edge(holding, tmp_path / "a", target, key_interval_s=1e-6) as one:
            await connected(one)
            for step in range(3):
                assert (await one.post(step)).status_code == 200
            assert one.kinds() == (3, 0)
            assert one.count(KEYS, reason="interval") == 2
        async with edge(holding, tmp_path / "b", target) as other:
            await connected(other)
            for rate in (1.0, 1.0, 2.0, 2.0):
                assert (await other.post(1, rate=rate)).status_code == 200
            assert other.kinds() == (2, 2)
            assert other.count(KEYS, reason="changed") == 1


async def test_cameras_have_chains_of_their_own_and_frames_posted_at_once_keep_together(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with (
        cloud(tmp_path / "cloud", place) as server,
        edge(holding, tmp_path / "edge", f"127.0.0.1:{server.grpc_port}") as one,
    ):
        await connected(one)
        posts = [one.post(step, camera=camera) for step in range(6) for camera in ("door", "yard")]
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {200}
        assert one.kinds() == (2, 10)


async def test_frames_taken_while_the_cloud_is_away_are_a_chain_that_it_decodes_later(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with cloud(tmp_path / "cloud", place) as server:
        port = server.grpc_port
        async with edge(holding, tmp_path / "edge", f"127.0.0.1:{port}") as one:
            await connected(one)
            seqs = [(await one.post(step)).json()["seq"] for step in range(3)]
            await server.stop()
            answers = [await one.post(step, wait=0) for step in range(3, 9)]
            assert {answer.status_code for answer in answers} == {202}
            seqs += [answer.json()["seq"] for answer in answers]
            assert one.kinds() == (1, 8)
            async with cloud(tmp_path / "cloud", place, port) as after:
                await one.settled()
                assert await stored(after) == seqs
                assert one.count("splitcodec_edge_spool_quarantined_total", reason="refused") == 0


async def test_a_cloud_that_lost_its_store_gets_a_key_frame_next(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with cloud(tmp_path / "cloud", place) as server:
        port = server.grpc_port
        async with edge(holding, tmp_path / "edge", f"127.0.0.1:{port}") as one:
            await connected(one)
            assert (await one.post(0)).status_code == 200
            await server.stop()
            assert (await one.post(1, wait=0)).status_code == 202
            async with cloud(tmp_path / "other", place, port) as after:
                await one.settled()
                assert one.count("splitcodec_edge_spool_quarantined_total", reason="refused") == 1
                assert (await one.post(2)).status_code == 200
                assert one.count(KEYS, reason="refused") == 1
                assert len(await stored(after)) == 1


async def test_a_client_that_goes_away_while_its_frame_is_written_ends_the_chain(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with (
        cloud(tmp_path / "cloud", place) as server,
        edge(holding, tmp_path / "edge", f"127.0.0.1:{server.grpc_port}") as one,
    ):
        await connected(one)
        assert (await one.post(0)).status_code == 200
        outbox, writing = one.pipeline._outbox, asyncio.Event()
        keep = outbox.keep

        async def keep_slowly(entry: object) -> None:
            writing.set()
            await asyncio.Event().wait()

        outbox.keep = keep_slowly
        gone = asyncio.create_task(one.post(1))
        await writing.wait()
        gone.cancel()
        await asyncio.wait([gone])
        outbox.keep = keep
        assert (await one.post(2)).status_code == 200
        assert one.count(KEYS, reason="unsafe") == 1


async def test_a_full_spool_refuses_a_frame_and_begins_the_chain_anew(
    holding: Codec, place: Path, tmp_path: Path
) -> None:
    async with (
        cloud(tmp_path / "cloud", place) as server,
        edge(holding, tmp_path / "edge", f"127.0.0.1:{server.grpc_port}") as one,
    ):
        await connected(one)
        spool = one.pipeline._outbox.spool
        assert (await one.post(0)).status_code == 200
        await one.settled()
        limits = await spool.run(lambda opened: opened.limits)
        await spool.run(lambda opened: setattr(opened, "limits", type(limits)(1, limits.max_age_s)))
        assert (await one.post(1, wait=0)).status_code == 503
        assert (await one.post(2)).status_code == 200  # from memory: somebody waits
        await spool.run(lambda opened: setattr(opened, "limits", limits))
        assert (await one.post(3)).status_code == 200
        assert (await one.post(4)).status_code == 200
        assert one.count(KEYS, reason="unsafe") == 2
        assert one.kinds() == (3, 1)


async def test_a_cloud_that_does_not_say_so_gets_key_frames_alone(holding: Codec, tmp_path: Path) -> None:
    async with fake_cloud() as fake, edge(holding, tmp_path / "edge", fake.target) as one:
        await connected(one)
        for step in range(3):
            assert (await one.post(step)).status_code == 200
        assert {frame.bitstream[:1] for frame in fake.frames} == {b"\x8b"}
        assert one.kinds() == (0, 0)

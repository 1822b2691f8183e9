"""For tests: an edge with its HTTP interface in this process, before a real cloud, and packs to swap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import tiny_pack
from cloud_prompt_rig import LIMITS, Rig, cloud_on
from edge_rig import JPEG_TYPE, picture
from prometheus_client import CollectorRegistry

from edge.__main__ import build_codec
from edge.app import create_app
from edge.follow import GrpcPromptSource, PromptFollower, following
from edge.metrics import EdgeMetrics
from edge.pipeline import EdgePipeline, open_pipeline
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack

PATIENCE_S = 20.0
AWAY = "127.0.0.1:1"
assert LIMITS.score_threshold == 0  # the cloud of these tests answers with every box


@dataclass(frozen=True)
class Packs:
    """Three tasks; the same ones with another `detect`; and the folder of the first."""

    folder: Path
    first: Pack
    newer: Pack


def write_packs(folder: Path) -> Packs:
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
            follower = PromptFollower(
                pipeline.prompts, source, state.device, digest, settings.max_prompt_bytes
            )
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


async def upload(edge: Edge, data: bytes, **params: object) -> httpx.Response:
    return await edge.http.post("/v1/prompts", content=data, params=params)

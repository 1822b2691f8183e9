"""A cloud on real packs, and prompt packs to publish to it: for tests of the Prompts service."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
import safetensors.numpy
import tiny_pack
from cloud_helpers import PATIENCE_S, error_name
from prometheus_client import CollectorRegistry
from test_prompt_pack import sealed, zipped

from cloud.packs import PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from splitcodec.codec import FeatureEncoder
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.write import write_pack
from splitcodec.signing import TrustStore
from splitcodec.tasks import ResultLimits
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import ingest_pb2, prompts_pb2, results_pb2
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub

LIMITS = ResultLimits(score_threshold=0.0)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pack, Pack]:
    """The pack that is deployed, with `detect` alone, and one with two more tasks and another `detect`."""
    folder = tmp_path_factory.mktemp("cloud-prompts")
    deployed = tiny_pack.write_tiny_pack(folder / "deployed")
    tasks = dict(tiny_pack.three_tasks().tasks)
    tasks["detect"] = replace(
        tasks["detect"], tensors=tiny_pack.prompt_tensors(9), tail=tiny_pack.tail_graph(9)
    )
    write_pack(folder / "newer", replace(tiny_pack.contents(), name="newer", tasks=tasks))
    return deployed, load_pack(folder / "newer")


@dataclass(frozen=True)
class Rig:
    """A running cloud on the deployed pack."""

    server: CloudServer
    prompts: PromptsStub
    ingest: FeatureIngestStub
    registry: CollectorRegistry

    async def publish(self, data: bytes, activate: bool = False, **header: object) -> object:
        said = {"size": len(data), "sha256": hashlib.sha256(data).digest(), "activate": activate, **header}
        parts = [prompts_pb2.PublishPromptRequest(header=prompts_pb2.PublishPromptHeader(**said))]
        for start in range(0, len(data), 10_000):
            parts.append(prompts_pb2.PublishPromptRequest(chunk=data[start : start + 10_000]))
        return await self.prompts.Publish(iter(parts), timeout=PATIENCE_S)

    async def activate(self, task: str, digest: bytes) -> prompts_pb2.ActivatePromptResponse:
        request = prompts_pb2.ActivatePromptRequest(task=task, prompt_digest=digest)
        return await self.prompts.Activate(request, timeout=PATIENCE_S)

    async def infer(self, seq: int, bitstream: bytes) -> results_pb2.TaskResult:
        frame = ingest_pb2.Frame(
            key=results_pb2.FrameKey(device="box", camera="door", seq=seq),
            capture_time_unix_nanos=1 + seq,
            bitstream=bitstream,
        )
        answer = await self.ingest.Infer(ingest_pb2.InferRequest(frame=frame), timeout=PATIENCE_S)
        return answer.result

    async def state(self) -> dict[str, tuple[str, bool, bool]]:
        """digest -> task, active, published."""
        listed = await self.prompts.List(prompts_pb2.ListPromptsRequest(), timeout=PATIENCE_S)
        return {one.prompt_digest.hex(): (one.task, one.active, one.published) for one in listed.prompts}

    def swaps(self, outcome: str) -> float:
        value = self.registry.get_sample_value("splitcodec_prompt_swaps_total", {"outcome": outcome})
        return value or 0.0


@asynccontextmanager
async def cloud_on(
    pack: Pack, data_dir: Path, trust: TrustStore | None = None, **settings: object
) -> AsyncIterator[Rig]:
    chosen = CloudSettings(port=0, metrics_port=0, data_dir=data_dir, **settings)
    registry = CollectorRegistry()
    runner = PackRunner([pack], "ort-cpu", 1, LIMITS)
    async with CloudServer(chosen, runner, registry, trust) as server:
        target = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            yield Rig(server, PromptsStub(channel), FeatureIngestStub(channel), registry)


def coded(pack: Pack, task: str, seed: int = 0) -> bytes:
    section = pack.task(task)
    canvas = tiny_pack.noise_canvas(section.input.height, section.input.width, seed)
    return FeatureEncoder(pack, engine="ort-cpu").compress(canvas, pack.prompt(task), 1.0, (480, 720)).data


def wire(pack: Pack, task: str) -> bytes:
    return pack.prompt(task).wire_digest


async def refused(call: object) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), error_name(caught.value), caught.value.details() or ""


def harmed(pack: Pack, folder: Path, name: str, value: float) -> bytes:
    """The prompt pack of `detect` with one tensor value changed and every digest right."""
    place = folder / "cut.zip"
    place.write_bytes(cut_prompt_pack(pack, "detect"))
    with zipfile.ZipFile(place) as archive:
        parts = {one: archive.read(one) for one in archive.namelist()}
    tensors = safetensors.numpy.load(parts["prompt.safetensors"])
    tensors[name][(0,) * tensors[name].ndim] = value
    parts["prompt.safetensors"] = safetensors.numpy.save(tensors)
    return zipped(place, sealed(parts)).read_bytes()

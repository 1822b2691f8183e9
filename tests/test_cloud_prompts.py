"""The Prompts service on real packs: publish, activate, watch, fetch and retire while frames are answered."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import safetensors.numpy
import tiny_pack
from cloud_helpers import PATIENCE_S, error_name, running
from prometheus_client import CollectorRegistry
from test_prompt_pack import sealed, zipped

from cloud.packs import PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings
from splitcodec.codec import FeatureEncoder
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.packs.sign import sign_pack
from splitcodec.packs.write import write_pack
from splitcodec.signing import SigningKey, TrustStore
from splitcodec.signing.memory import VersionMemory
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


async def test_watchers_end_when_the_service_stops(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    async with cloud_on(packs[0], tmp_path) as cloud:
        watch = cloud.prompts.Watch(prompts_pb2.WatchPromptsRequest(), timeout=PATIENCE_S)
        await watch.read()
        ended = asyncio.create_task(refused(watch.read()))
        await cloud.server.stop()
        code, name, _ = await ended
        assert (code, name) == (grpc.StatusCode.UNAVAILABLE, "ServiceStopping")


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

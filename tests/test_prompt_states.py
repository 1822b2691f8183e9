"""The states of a prompt, from its arrival to its end or failure, as interface, metrics and log tell them."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from cloud_prompt_rig import cloud_on, harmed, refused, wire
from edge_prompt_rig import AWAY, PATIENCE_S, Edge, Packs, both, edge_on, upload, write_packs
from prometheus_client import CollectorRegistry
from waiting import until

from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.prompt_ledger import MAX_GONE, PromptLedger
from splitcodec.service_metrics import ServiceMetrics
from splitcodec.wire.v1 import prompts_pb2


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("prompt-states"))


def shown(registry: CollectorRegistry, digest: str) -> dict[str, float]:
    """state -> value of splitcodec_prompt_info, of one prompt."""
    return {
        sample.labels["state"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "splitcodec_prompt_info" and sample.labels["digest"] == digest
    }


def stages(registry: CollectorRegistry) -> dict[str, float]:
    """stage -> how often its time was taken."""
    return {
        sample.labels["stage"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "splitcodec_prompt_stage_seconds_count"
    }


async def states(edge: Edge) -> dict[str, str]:
    """digest -> state."""
    listed = (await edge.http.get("/v1/prompts/states")).json()
    return {one["prompt_digest"]: one["state"] for one in listed}


def test_of_those_that_are_gone_the_newest_are_kept() -> None:
    registry = CollectorRegistry()
    ledger = PromptLedger(ServiceMetrics(registry, "edge"), clock=lambda: 5.0)
    ledger.note("detect", "aa", "active")
    for number in range(MAX_GONE + 3):
        ledger.note("detect", f"{number:02}", "failed", "why")
    kept = [record.prompt_digest for record in ledger.records()]
    assert (kept[0], len(kept)) == ("aa", MAX_GONE + 1)
    assert "02" not in kept
    assert shown(registry, "02") == {}
    assert shown(registry, "03") == {"failed": 1}


def test_the_time_of_a_state_is_when_it_began() -> None:
    times = iter((1.0, 2.0, 3.0))
    ledger = PromptLedger(ServiceMetrics(CollectorRegistry(), "edge"), clock=lambda: next(times))
    ledger.note("detect", "aa", "warm")
    ledger.note("detect", "aa", "warm")
    assert ledger.records()[0].since == 1.0
    ledger.note("detect", "aa", "active")
    assert ledger.records()[0].since == 2.0


async def test_an_edge_tells_each_state(
    packs: Packs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new = wire(packs.first, "detect").hex(), wire(packs.newer, "detect").hex()
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        assert (await states(edge))[old] == "active"
        assert (await upload(edge, cut_prompt_pack(packs.newer, "detect"))).json()["state"] == "warm"
        assert (await states(edge))[new] == "warm"
        assert shown(edge.registry, new) == {"warm": 1}
        await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": new})
        assert [(await states(edge))[one] for one in (old, new)] == ["warm", "active"]
        assert shown(edge.registry, old) == {"warm": 1}
        await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": old})
        await edge.http.delete(f"/v1/prompts/{new}")
        assert (await states(edge))[new] == "retired"
        assert shown(edge.registry, new) == {"retired": 1}
        assert stages(edge.registry) == {"verify": 1, "warm": 1, "store": 1, "switch": 2}
    logged = [
        record.message for record in caplog.records if f"prompt {new} of task detect is" in record.message
    ]
    assert [line.rpartition(" ")[2] for line in logged] == [
        *("staged", "verified", "warm", "active", "warm", "draining", "retired")
    ]


async def test_a_prompt_that_fails_says_why(packs: Packs, tmp_path: Path) -> None:
    data = harmed(packs.newer, tmp_path, "g_a.conv0.weight", float("nan"))
    async with edge_on(packs, tmp_path / "edge", AWAY, follow_cloud_prompts=False) as edge:
        assert (await upload(edge, data)).status_code == 422
        (failed,) = [
            one for one in (await edge.http.get("/v1/prompts/states")).json() if one["state"] == "failed"
        ]
        assert (failed["task"], "holds NaN" in failed["reason"]) == ("detect", True)
        assert shown(edge.registry, failed["prompt_digest"]) == {"failed": 1}
        assert (await upload(edge, b"no zip")).status_code == 422
        assert list((await states(edge)).values()).count("failed") == 1


async def test_a_retired_prompt_drains_while_a_frame_holds_it(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = wire(packs.first, "detect").hex(), wire(packs.newer, "detect").hex()
    begun, go_on = threading.Event(), threading.Event()
    async with both(packs, tmp_path, follow_cloud_prompts=False) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        await upload(edge, cut_prompt_pack(packs.newer, "detect"), activate=True)
        encoder = edge.pipeline._codec.encoder
        compress = encoder.compress

        def held(*frame: object, **how: object) -> object:
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return compress(*frame, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(encoder, "compress", held)
        frame = asyncio.create_task(edge.post("door"))
        try:
            assert await asyncio.to_thread(begun.wait, PATIENCE_S)
            assert edge.registry.get_sample_value("splitcodec_prompt_leases") == 1
            await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": old})
            await edge.http.delete(f"/v1/prompts/{new}")
            assert (await states(edge))[new] == "draining"
            listed = {one["prompt_digest"]: one for one in (await edge.http.get("/v1/prompts")).json()}
            assert (listed[new]["state"], listed[new]["leases"]) == ("draining", 1)
        finally:
            go_on.set()
        assert (await frame)["prompt_digest"] == new
        assert (await states(edge))[new] == "retired"
        assert edge.registry.get_sample_value("splitcodec_prompt_leases") == 0


async def test_a_cloud_tells_each_state(packs: Packs, tmp_path: Path) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    async with cloud_on(packs.first, tmp_path / "data") as cloud:

        async def told() -> dict[bytes, tuple[str, str]]:
            listed = await cloud.prompts.List(prompts_pb2.ListPromptsRequest(task="detect"))
            return {one.prompt_digest: (one.state, one.reason) for one in listed.records}

        assert await told() == {old: ("active", "")}
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"))
        assert await told() == {old: ("active", ""), new: ("warm", "")}
        await cloud.activate("detect", new)
        assert await told() == {old: ("warm", ""), new: ("active", "")}
        assert shown(cloud.registry, new.hex()) == {"active": 1}
        await cloud.activate("detect", old)
        await cloud.prompts.Retire(prompts_pb2.RetirePromptRequest(prompt_digest=new, now=True))
        assert (await told())[new] == ("retired", "")
        assert stages(cloud.registry) == {"verify": 1, "warm": 1, "store": 1, "switch": 2}
        await refused(cloud.publish(harmed(packs.newer, tmp_path, "g_a.conv0.weight", float("nan"))))
        (reason,) = [reason for state, reason in (await told()).values() if state == "failed"]
        assert "holds NaN" in reason


async def test_what_an_edge_could_not_follow_has_failed_there(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = wire(packs.newer, "detect").hex()
    async with both(packs, tmp_path, max_prompt_bytes=1024) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        await until(lambda: shown(edge.registry, new) == {"failed": 1})
        assert (await edge.active())["detect"] == wire(packs.first, "detect").hex()
        assert (await edge.post("door"))["prompt_digest"] == wire(packs.first, "detect").hex()

"""A prompt on whose first frames the graphs fail is given up, on the edge and in the cloud, by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cloud_prompt_rig import Rig, cloud_on, coded, refused, wire
from edge_prompt_rig import AWAY, PATIENCE_S, Edge, Packs, both, edge_on, upload, write_packs
from edge_rig import JPEG_TYPE, picture
from waiting import until

from cloud.live_prompts import LivePrompt
from cloud.runner import Admission
from splitcodec.errors import GraphFailed
from splitcodec.packs.prompt_pack import cut_prompt_pack
from splitcodec.prompt_probation import FAILURES, FIRST_FRAMES, Probation
from splitcodec.wire.v1 import prompts_pb2

NAME = b"12345678"


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("probation"))


def test_two_failures_among_the_first_frames_end_a_prompt_once() -> None:
    probation = Probation()
    assert not probation.frame(NAME, failed=True)  # it was not activated here
    probation.begin(NAME)
    found = [probation.frame(NAME, failed) for failed in (True, False, True, True)]
    assert found == [False, False, True, False]


def test_later_frames_do_not_count() -> None:
    probation = Probation()
    probation.begin(NAME)
    assert not any(probation.frame(NAME, failed=False) for _ in range(FIRST_FRAMES))
    assert not any(probation.frame(NAME, failed=True) for _ in range(FAILURES))


async def post_in_vain(edge: Edge) -> None:
    answer = await edge.http.post(
        "/v1/frames", content=picture(), params={"camera": "door"}, headers=JPEG_TYPE
    )
    assert answer.status_code == 500


def failing_with(digest: str, compress: Callable[..., object]) -> Callable[..., object]:
    def wrapped(canvas: object, prompt: object, *rest: object, **how: object) -> object:
        if prompt.digest.startswith(digest):  # type: ignore[attr-defined]
            raise GraphFailed("the head gave NaN")
        return compress(canvas, prompt, *rest, **how)

    return wrapped


async def test_an_edge_goes_back_by_itself(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    async with both(packs, tmp_path) as (edge, cloud):
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        await until(lambda: edge.pipeline.prompts.active("detect") == new)
        encoder = edge.pipeline._codec.encoder
        monkeypatch.setattr(encoder, "compress", failing_with(new.hex(), encoder.compress))
        for _ in range(FAILURES):
            await post_in_vain(edge)
        await until(lambda: edge.swaps("rolled_back") == 1)
        assert (await edge.post("door"))["prompt_digest"] == old.hex()
        failed = [
            one for one in (await edge.http.get("/v1/prompts/states")).json() if one["state"] == "failed"
        ]
        assert [one["prompt_digest"] for one in failed] == [new.hex()]
        assert failed[0]["reason"] == "its first frames fail: the head gave NaN"

        async def is_told() -> bool:
            answer = await cloud.prompts.ListDevices(prompts_pb2.ListPromptDevicesRequest())
            states = {one.prompt_digest: one.state for one in answer.devices[0].records}
            return (states[new], states[old]) == ("failed", "active")

        await until(is_told)
        await cloud.publish(cut_prompt_pack(packs.newer, "count"), activate=True)  # a new state to follow
        await until(lambda: edge.pipeline.prompts.active("count"))
        assert edge.pipeline.prompts.active("detect") == old


async def test_by_hand_a_prompt_that_was_given_up_gets_another_try(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = wire(packs.newer, "detect").hex()
    async with edge_on(packs, tmp_path, AWAY, follow_cloud_prompts=False) as edge:
        await upload(edge, cut_prompt_pack(packs.newer, "detect"), activate=True)
        encoder = edge.pipeline._codec.encoder
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "compress", failing_with(new, encoder.compress))
            for _ in range(FAILURES):
                await post_in_vain(edge)
            await until(lambda: edge.swaps("rolled_back") == 1)
        await edge.http.put("/v1/tasks/detect/prompt", json={"prompt_digest": new})
        assert edge.pipeline.prompts.ledger.has_failed(new) is False
        assert (await edge.active())["detect"] == new


async def infer_in_vain(cloud: Rig, seq: int, bitstream: bytes) -> None:
    code, name, _ = await refused(cloud.infer(seq, bitstream))
    assert (code, name) == (grpc.StatusCode.INTERNAL, "")  # it settles nothing: the edge sends it again


async def test_a_cloud_goes_back_by_itself(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = wire(packs.first, "detect"), wire(packs.newer, "detect")
    answer, probe = LivePrompt.answer, LivePrompt.probe

    def is_ill(live: LivePrompt) -> None:
        if live.prompt.wire_digest == new:
            raise GraphFailed("the tail gave NaN")

    def ill_answer(live: LivePrompt, frames: list[Admission]) -> object:
        is_ill(live)
        return answer(live, frames)

    def ill_probe(live: LivePrompt) -> None:
        is_ill(live)
        probe(live)

    async with cloud_on(packs.first, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        monkeypatch.setattr(LivePrompt, "answer", ill_answer)
        monkeypatch.setattr(LivePrompt, "probe", ill_probe)
        for seq in range(FAILURES):
            await infer_in_vain(cloud, seq, coded(packs.newer, "detect"))
        await until(lambda: cloud.swaps("rolled_back") == 1)
        listed = await cloud.prompts.List(prompts_pb2.ListPromptsRequest(), timeout=PATIENCE_S)
        states = {one.prompt_digest: (one.state, one.reason) for one in listed.records}
        assert states[old] == ("active", "")
        assert states[new][0] == "failed"
        assert "its first frames fail" in states[new][1]
        assert (await cloud.infer(99, coded(packs.first, "detect"))).prompt_digest == old


async def test_a_frame_that_fails_alone_is_not_the_prompts_fault(
    packs: Packs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, bad = wire(packs.newer, "detect"), coded(packs.newer, "detect", seed=5)
    answer = LivePrompt.answer

    def choosy(live: LivePrompt, frames: list[Admission]) -> object:
        if bad in [frame.bitstream for frame in frames]:
            raise GraphFailed("this frame")
        return answer(live, frames)

    async with cloud_on(packs.first, tmp_path) as cloud:
        await cloud.publish(cut_prompt_pack(packs.newer, "detect"), activate=True)
        monkeypatch.setattr(LivePrompt, "answer", choosy)
        for seq in range(FAILURES + 1):
            assert (await refused(cloud.infer(seq, bad)))[1] == "UndecodableFrame"
        assert (await cloud.infer(9, coded(packs.newer, "detect"))).prompt_digest == new
        assert cloud.swaps("rolled_back") == 0

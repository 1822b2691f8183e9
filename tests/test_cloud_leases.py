"""A frame keeps the prompt it was admitted with until it has its result, failed or was cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, Cloud, error_name, infer_request, running
from tiny_pack import contents, noise_canvas, prompt_tensors, tail_graph, write_tiny_pack
from waiting import until

from cloud.packs import PackRunner
from cloud.runner import Admission, TaskOutput, run_together
from splitcodec.codec import FeatureEncoder, LatentState
from splitcodec.errors import SplitcodecError, UnknownPrompt
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.prompt_pack import PromptPack, cut_prompt_pack, load_prompt_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import ResultLimits

EVERYTHING = ResultLimits(score_threshold=0.0)


class GatedRunner(PackRunner):
    """Runs frames on a real pack, none of them while `gate` is closed; `failure` is what they fail with."""

    def __init__(self, pack: Pack) -> None:
        super().__init__([pack], "ort-cpu", 1, EVERYTHING)
        self.gate = threading.Event()
        self.started = threading.Event()
        self.failure: Exception | None = None

    @contextmanager
    def admit(self, bitstream: bytes, state: LatentState | None = None) -> Iterator[Admission]:
        with super().admit(bitstream, state) as admission:

            def run(frames: Sequence[Admission]) -> list[TaskOutput | SplitcodecError]:
                self.started.set()
                assert self.gate.wait(PATIENCE_S)
                if self.failure is not None:
                    raise self.failure
                return admission.run(frames)

            yield replace(admission, run=run)

    def leases(self) -> dict[str, int]:
        """Leases of each prompt that is still held, by its 16 hex digits."""
        (decoder,) = self._decoders.values()
        return {row.digest[:16]: row.leases for row in decoder.store.list()}

    def retire_published(self, pack: PromptPack) -> None:
        self.retire(bytes.fromhex(pack.manifest.codec_digest)[:8], pack.prompt.wire_digest)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_tiny_pack(tmp_path_factory.mktemp("leases") / "deployed")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of the same codec with another prompt."""
    folder = tmp_path_factory.mktemp("leases") / "newer"
    task = replace(contents().tasks["detect"], tensors=prompt_tensors(9), tail=tail_graph(9))
    write_pack(folder, replace(contents(), tasks={"detect": task}))
    return load_pack(folder)


@pytest.fixture
def runner(deployed: Pack) -> GatedRunner:
    return GatedRunner(deployed)


@pytest.fixture
def published(runner: GatedRunner, newer: Pack, tmp_path: Path) -> PromptPack:
    """The newer prompt, which the runner serves and no task uses."""
    place = tmp_path / "newer.zip"
    place.write_bytes(cut_prompt_pack(newer, "detect"))
    pack = load_prompt_pack(place, runner.codecs())
    runner.stage(pack)
    return pack


@pytest.fixture(scope="module")
def coded(newer: Pack) -> bytes:
    """A frame of the newer prompt."""
    encoder = FeatureEncoder(newer, engine="ort-cpu")
    return encoder.compress(noise_canvas(64, 96), newer.prompt("detect"), 1.0, (64, 96)).data


def test_a_frame_that_was_admitted_is_answered_with_a_prompt_that_was_retired_since(
    runner: GatedRunner, published: PromptPack, coded: bytes
) -> None:
    digest = published.prompt.digest[:16]
    runner.gate.set()
    with runner.admit(coded) as frame:
        runner.retire_published(published)
        assert digest not in {prompt.prompt_digest.hex() for prompt in runner.prompts()}
        assert runner.leases()[digest] == 1
        with pytest.raises(UnknownPrompt, match="publish that prompt"), runner.admit(coded):
            pass
        (output,) = run_together([frame])
    assert isinstance(output, TaskOutput)
    assert output.header.prompt_digest == published.prompt.wire_digest
    assert digest not in runner.leases()


def test_frames_from_before_and_after_a_prompt_came_anew_share_no_batch(
    runner: GatedRunner, published: PromptPack, coded: bytes
) -> None:
    with runner.admit(coded) as before:
        runner.retire_published(published)
        runner.stage(published)
        with runner.admit(coded) as after:
            assert before.group != after.group
            assert runner.leases()[published.prompt.digest[:16]] == 2
    assert set(runner.leases().values()) == {0}


async def queued(
    cloud: Cloud, runner: GatedRunner, coded: bytes, calls: int
) -> list[grpc.aio.UnaryUnaryCall]:
    """Calls that wait for the gate: the first one in work, the others behind it."""
    made = []
    for seq in range(1, calls + 1):
        made.append(cloud.ingest.Infer(infer_request(seq, bitstream=coded), timeout=PATIENCE_S))
        await until(lambda: cloud.metric("splitcodec_cloud_pending_frames") == len(made))
        assert await asyncio.to_thread(runner.started.wait, PATIENCE_S)
    return made


async def test_frames_in_the_queue_keep_a_retired_prompt(
    runner: GatedRunner, published: PromptPack, coded: bytes, tmp_path: Path
) -> None:
    async with running(tmp_path / "data", runner, workers=1, score_threshold=0) as cloud:
        calls = await queued(cloud, runner, coded, 3)
        runner.retire_published(published)
        assert runner.leases()[published.prompt.digest[:16]] == 3
        runner.gate.set()
        answers = [await call for call in calls]
        assert published.prompt.digest[:16] not in runner.leases()
    assert {answer.result.prompt_digest for answer in answers} == {published.prompt.wire_digest}


async def test_a_frame_that_fails_gives_its_prompt_back(
    runner: GatedRunner, published: PromptPack, coded: bytes, tmp_path: Path
) -> None:
    runner.failure = UnknownPrompt("as if")
    async with running(tmp_path / "data", runner, workers=1) as cloud:
        (call,) = await queued(cloud, runner, coded, 1)
        assert runner.leases()[published.prompt.digest[:16]] == 1
        runner.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert error_name(caught.value) == "UnknownPrompt"
        other = infer_request(2, bitstream=coded, task="sing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await cloud.ingest.Infer(other, timeout=PATIENCE_S)
        assert error_name(caught.value) == "UnknownTask"
        assert runner.leases()[published.prompt.digest[:16]] == 0


async def test_a_frame_that_is_cancelled_gives_its_prompt_back_at_once(
    runner: GatedRunner, published: PromptPack, coded: bytes, tmp_path: Path
) -> None:
    async with running(tmp_path / "data", runner, workers=1) as cloud:
        calls = await queued(cloud, runner, coded, 2)
        assert runner.leases()[published.prompt.digest[:16]] == 2
        for call in calls:  # one is in work, one waits
            call.cancel()
        await until(lambda: runner.leases()[published.prompt.digest[:16]] == 0)
        runner.gate.set()

"""Frames on real packs: the tiny ones, in this process and through `python -m cloud`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cloud_helpers import answered
from tiny_pack import contents, noise_canvas, prompt_tensors, tail_graph, three_tasks

from cloud.packs import PackRunner
from cloud.runner import TaskOutput
from splitcodec.bitstream import parse, serialize
from splitcodec.codec import FeatureEncoder
from splitcodec.errors import CorruptBitstream, GraphFailed, PackMismatch, SplitcodecError, UnknownPrompt
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.write import write_pack
from splitcodec.tasks import Detection, ResultLimits
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub
from splitcodec.wire.v1.prompts_pb2 import ListPromptsRequest
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsStub
from splitcodec.wire.v1.results_pb2 import FrameKey

PATIENCE_S = 60.0
EVERYTHING = ResultLimits(score_threshold=0.0, max_detections=20)


def write(folder: Path, seed: int, name: str) -> Pack:
    """A tiny pack of the one tiny codec whose prompt and tail depend on the seed."""
    base = contents()
    task = replace(base.tasks["detect"], tensors=prompt_tensors(seed), tail=tail_graph(seed))
    write_pack(folder, replace(base, name=name, tasks={"detect": task}))
    return load_pack(folder)


@pytest.fixture(scope="module")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the folders of the packs `first` and `second`."""
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(scope="module")
def packs(pack_folder: Path) -> tuple[Pack, Pack]:
    """Two packs with one codec and different prompts."""
    return write(pack_folder / "first", 1, "first"), write(pack_folder / "second", 2, "second")


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_a_tail_with_another_number_of_classes_is_refused_at_load(task: str, tmp_path: Path) -> None:
    base = three_tasks()
    wrong = replace(base.tasks[task], labels=(*base.tasks[task].labels, "one too many"))
    write_pack(tmp_path / "pack", replace(base, tasks={task: wrong}))
    with pytest.raises(GraphFailed, match=r"\d classes, the manifest labels \d"):
        PackRunner([load_pack(tmp_path / "pack")], "ort-cpu", 1, EVERYTHING)


@pytest.fixture(scope="module")
def runner(packs: tuple[Pack, Pack]) -> PackRunner:
    return PackRunner(packs, "ort-cpu", 1, EVERYTHING)


@pytest.fixture(scope="module")
def frames(packs: tuple[Pack, Pack]) -> list[list[bytes]]:
    """Four bitstreams for each pack's prompt, at rates 0, 0.5, 1 and 1.5."""
    made = []
    for pack in packs:
        encoder = FeatureEncoder(pack, engine="ort-cpu")
        canvases = [noise_canvas(64, 96, seed) for seed in range(4)]
        made.append(
            [
                encoder.compress(canvas, pack.prompt("detect"), rate / 2, (480, 720)).data
                for rate, canvas in enumerate(canvases)
            ]
        )
    return made


def detections(output: TaskOutput | SplitcodecError) -> list[tuple[str, float, float, float]]:
    """Label, score and left top corner of each detection, rounded so that a last bit does not count."""
    assert isinstance(output, TaskOutput)
    found: tuple[Detection, ...] = output.answer.detections
    return [(one.label, round(one.score, 4), round(one.box.x1, 2), round(one.box.y1, 2)) for one in found]


def test_both_prompts_are_served(runner: PackRunner, packs: tuple[Pack, Pack]) -> None:
    served = runner.prompts()
    assert {prompt.pack for prompt in served} == {"first", "second"}
    assert {prompt.prompt_digest for prompt in served} == {
        pack.prompt("detect").wire_digest for pack in packs
    }
    assert {(prompt.task, prompt.rate_points, prompt.input_width) for prompt in served} == {("detect", 3, 96)}


def test_a_batch_answers_like_its_frames_alone(runner: PackRunner, frames: list[list[bytes]]) -> None:
    for own in frames:
        together = answered(runner, own)
        alone = [answered(runner, [frame])[0] for frame in own]
        assert [detections(output) for output in together] == [detections(output) for output in alone]
        assert all(detections(output) for output in alone)


def test_a_frame_is_decoded_with_the_prompt_it_names(runner: PackRunner, frames: list[list[bytes]]) -> None:
    with runner.admit(frames[0][0]) as first, runner.admit(frames[1][0]) as second:
        assert first.group != second.group
    assert detections(answered(runner, frames[0][:1])[0]) != detections(answered(runner, frames[1][:1])[0])


def test_every_stage_is_timed(runner: PackRunner, frames: list[list[bytes]]) -> None:
    (output,) = answered(runner, frames[0][:1])
    assert isinstance(output, TaskOutput)
    assert set(output.stage_seconds) == {"entropy", "hyper", "decoder", "tail", "postprocess"}
    assert min(output.stage_seconds.values()) > 0


def test_a_bad_frame_in_a_batch_harms_itself_alone(runner: PackRunner, frames: list[list[bytes]]) -> None:
    good = parse(frames[0][1])
    forged = serialize(replace(good, y=good.y[:-4]))
    outputs = answered(runner, [frames[0][0], forged, frames[0][2]])
    assert isinstance(outputs[1], CorruptBitstream)
    assert detections(outputs[0]) == detections(answered(runner, [frames[0][0]])[0])
    assert detections(outputs[2]) == detections(answered(runner, [frames[0][2]])[0])


@pytest.mark.parametrize(
    ("field", "error", "words"),
    [
        ("codec_digest", PackMismatch, "deploy that pack"),
        ("prompt_digest", UnknownPrompt, "publish that prompt"),
    ],
)
def test_frames_for_other_weights_are_not_admitted(
    runner: PackRunner, frames: list[list[bytes]], field: str, error: type[SplitcodecError], words: str
) -> None:
    good = parse(frames[0][0])
    stranger = serialize(replace(good, header=replace(good.header, **{field: bytes(8)})))
    with pytest.raises(error, match=words), runner.admit(stranger):
        pass


@contextmanager
def cloud_process(arguments: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """`python -m cloud` on free ports, and what it printed when it was ready."""
    command = [sys.executable, "-m", "cloud", "--port=0", "--metrics-port=0", *arguments]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.slow
async def test_the_process_serves_both_packs_and_ends_cleanly_on_sigterm(
    tmp_path: Path, pack_folder: Path, frames: list[list[bytes]], runner: PackRunner
) -> None:
    log = tmp_path / "log"
    arguments = [
        f"--packs={','.join(str(pack_folder / name) for name in ('first', 'second'))}",
        f"--data-dir={tmp_path / 'data'}",
        "--engine=ort-cpu",
        "--score-threshold=0",
        "--max-detections=20",
    ]
    with cloud_process(arguments, log) as (process, ready):
        assert ready["event"] == "listening"
        assert ready["metrics_port"] > 0
        target = f"127.0.0.1:{ready['grpc_port']}"
        async with grpc.aio.insecure_channel(target, options=client_options()) as channel:
            prompts = await PromptsStub(channel).List(ListPromptsRequest(), timeout=PATIENCE_S)
            assert len(prompts.prompts) == 2
            for camera, own in zip(("door", "yard"), frames, strict=True):
                frame = Frame(
                    key=FrameKey(device="box", camera=camera, seq=1),
                    capture_time_unix_nanos=1,
                    task="detect",
                    bitstream=own[0],
                )
                answer = await FeatureIngestStub(channel).Infer(InferRequest(frame=frame), timeout=PATIENCE_S)
                expected = detections(answered(runner, own[:1])[0])
                found = [(one.label, round(one.score, 4)) for one in answer.result.detections.items]
                assert found == [one[:2] for one in expected]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    assert json.loads(log.read_text().splitlines()[-1])["message"].startswith("stopping")


def test_the_pack_that_ships_is_served(default_pack: Pack) -> None:
    served = PackRunner([default_pack], "ort-cpu", 1, EVERYTHING)
    encoder = FeatureEncoder(default_pack, engine="ort-cpu")
    own = [
        encoder.compress(noise_canvas(96, 128, seed), default_pack.prompt("detect"), 1.0, (96, 128)).data
        for seed in range(2)
    ]
    together = answered(served, own)
    with served.admit(own[0]) as first, served.admit(own[1]) as second:
        assert (first.task, first.group) == (second.task, second.group)
    assert [detections(output) for output in together] == [
        detections(answered(served, [one])[0]) for one in own
    ]
    assert all(0 <= score <= 1 for output in together for _, score, _, _ in detections(output))

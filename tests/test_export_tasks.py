"""One codec, several tasks: packs of one stage 1 share its digest; each task is served by its own tail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from training_rig import EXPORT_EXAMPLE, THIRD_PARTY, TINY, WholeRun, command, smooth_photo, whole_run
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.errors import TrainingError
from splitcodec.evaluation.codec_system import codec_systems, codec_under_test
from splitcodec.evaluation.systems import TeacherSystem
from splitcodec.export import build
from splitcodec.export.sources import CONVENTIONS
from splitcodec.frame import Canvas
from splitcodec.models.sizes import SIZES
from splitcodec.models.transforms import ImageExtractor
from splitcodec.packs import Pack, load_pack
from splitcodec.runtime import open_session
from splitcodec.tasks import ClassScores, FrameSize, ResultLimits, postprocess_for
from splitcodec.teacher_inputs import TeacherInput
from splitcodec.training import recipes
from splitcodec.training.checkpoint import load_modules

__all__ = ["whole_run"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]
SHAPES = ("round", "square", "star", "none")
SPLIT = "1"


def own_teacher() -> nn.Module:
    """A classifier of somebody else's, picture in 0..1."""
    torch.manual_seed(5)
    layers = (nn.Conv2d(3, 6, 8, stride=8), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, len(SHAPES)))


def test_letterboxes_are_trimmed_unless_said_otherwise() -> None:
    trimmed = {task for task, convention in CONVENTIONS.items() if convention.trim}
    assert trimmed == {"detect", "segment"}


@pytest.fixture(scope="module")
def several(whole_run: WholeRun, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """detect of the whole run, shapes on the feature, and the same teacher behind a decoded picture."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "shapes.txt").write_text("\n".join(SHAPES) + "\n")
    own = {"teacher": f"{__name__}:own_teacher", "split": SPLIT, "labels": str(folder / "shapes.txt")}
    tasks = [
        {
            "task": "detect",
            "teacher": str(whole_run.teacher),
            "labels": str(whole_run.folder / "labels.txt"),
            "run": str(whole_run.task_file),
        }
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "nano", TINY)
        patch.setattr(recipes, "OWN_TEACHER", replace(recipes.OWN_TEACHER, steps=3, crop=64, batch=4))
        patch.setattr(build, "EXAMPLE", EXPORT_EXAMPLE)
        for task, student in (("shapes", "feature"), ("shapes_pixels", "pixels")):
            words = ("--teacher", own["teacher"], "--split", SPLIT, "--task", task, "--student", student)
            words += ("--data", whole_run.photos, "--codec", whole_run.codec_file)
            command("train", "prompt", *words, "--out", folder / task, "--no-compile")
            tasks.append({"task": task, "run": str(folder / task / "final.safetensors"), **own})
        (folder / "tasks.json").write_text(json.dumps(tasks))
        given = ("--codec", whole_run.codec_file, "--tasks", folder / "tasks.json")
        command("export", *given, "--out", folder / "pack", "--name", "several")
    return load_pack(folder / "pack")


def test_packs_of_one_stage_1_have_one_codec_digest(several: Pack, whole_run: WholeRun) -> None:
    alone = load_pack(whole_run.pack)
    assert several.tasks == ("detect", "shapes", "shapes_pixels")
    assert several.codec_digest == alone.codec_digest
    assert several.prompt("detect").digest == alone.prompt("detect").digest
    assert len({several.prompt(task).digest for task in several.tasks}) == 3


@pytest.mark.parametrize("task", ["shapes", "shapes_pixels"])
def test_own_task_is_served_from_bytes_to_labels(task: str, several: Pack) -> None:
    section = several.task(task)
    encoder, decoder = FeatureEncoder(several, engine="ort-cpu"), FeatureDecoder(several, engine="ort-cpu")
    canvas = smooth_photo(96, 160, 3)
    frame = encoder.compress(canvas, several.prompt(task), 3.0, (96, 160))
    tail = open_session(several.tail_bytes(task), name="tail")
    heads = tail.run({"feature": decoder.decompress(frame.data).feature})
    size = FrameSize(96, 160, 96, 160, "stretch", 1.0)
    answer = postprocess_for(section.postprocess)(heads, size, section.labels, ResultLimits())
    assert isinstance(answer, ClassScores)
    assert {found.label for found in answer.classes} <= set(SHAPES)
    scores = [found.score for found in answer.classes]
    assert scores == sorted(scores, reverse=True)
    assert np.isclose(sum(scores), 1.0, atol=1e-4)


def test_the_pack_names_each_tasks_teacher(several: Pack) -> None:
    teachers = {teacher.task: teacher for teacher in several.manifest.provenance.teachers}
    assert teachers["shapes"].name == f"{__name__}:own_teacher"
    assert teachers["shapes"].sha256 == teachers["shapes_pixels"].sha256 != teachers["detect"].sha256
    assert [stage.name for stage in several.manifest.provenance.stages] == [
        "base2",
        "detect2",
        "own-teacher",
        "own-teacher",
    ]


class SpySession:
    """A teacher that records the pictures it is shown."""

    name, engine, placement = "spy", "none", {}
    input_names, output_names = ("images",), ()

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float32]] = []

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.seen.append(inputs["images"])
        return {}


def test_a_whole_teacher_is_shown_the_extractors_picture(several: Pack, whole_run: WholeRun) -> None:
    spy, canvas = SpySession(), smooth_photo(96, 160, 3)
    teacher = TeacherSystem(spy, TeacherInput(bgr=False, scale=1.0, offset=0.0))
    systems = codec_systems(several, "shapes", (0.0, 3.0), "ort-cpu", 1, teacher, "both")
    assert [(system.codec, system.rate) for system in systems] == [
        ("splitcodec", 0.0),
        ("splitcodec", 3.0),
        ("splitcodec-pixels", 0.0),
        ("splitcodec-pixels", 3.0),
    ]
    for student in ("feature", "pixels"):
        alone = codec_systems(several, "shapes", (0.0,), "ort-cpu", 1, teacher, student)
        assert [system.codec for system in alone] == [codec_under_test(student)]
    outputs = [system.run(Canvas(canvas, FrameSize(96, 160, 96, 160, "stretch", 1.0))) for system in systems]
    assert [one.num_bytes for one in outputs[:2]] == [one.num_bytes for one in outputs[2:]]
    extractor = ImageExtractor(TINY.feature_channels)
    load_modules(whole_run.codec_file, {"extractor": extractor})
    encoder, decoder = FeatureEncoder(several, engine="ort-cpu"), FeatureDecoder(several, engine="ort-cpu")
    for rate, shown in zip((0.0, 3.0), spy.seen, strict=True):
        frame = encoder.compress(canvas, several.prompt("shapes"), rate, (96, 160))
        with torch.no_grad():
            picture = extractor(torch.from_numpy(decoder.decompress(frame.data).feature))
        want = ((picture + 1.0) * 127.5).clamp(0.0, 255.0).numpy()
        assert np.abs(shown - want).max() <= 0.51  # whole pixel values


def test_a_pack_without_tasks_is_refused(whole_run: WholeRun, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    words = ("--tasks", tmp_path / "none.json", "--out", tmp_path / "pack")
    with pytest.raises(TrainingError, match="needs at least one task"):
        command("export", "--codec", whole_run.codec_file, *words)


def test_a_task_name_no_pack_can_hold_is_refused_before_training(tmp_path: Path) -> None:
    words = ["train", "prompt", "--task", "my-task", "--split", SPLIT, "--data", str(tmp_path)]
    words += ["--teacher", "a:b", "--codec", str(tmp_path), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "must match" in result.output

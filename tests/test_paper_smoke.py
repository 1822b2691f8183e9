"""The paper's set-up end to end on a few photos and random weights: train, export, serve, evaluate.

Sizes are the real ones (ResNet-50 teachers, the `base` codec); pictures, crops and runs are tiny.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cloud_helpers import CAPTURED, PATIENCE_S, running
from PIL import Image
from safetensors.torch import load_file
from training_rig import THIRD_PARTY, command, smooth_photo

from cloud.packs import PackRunner
from splitcodec.codec import FeatureEncoder
from splitcodec.export import build
from splitcodec.packs import load_pack
from splitcodec.tasks import ResultLimits
from splitcodec.training import setting
from splitcodec.training.recipes import STAGE1, STAGE2
from splitcodec.wire.v1.ingest_pb2 import Frame, InferRequest
from splitcodec.wire.v1.results_pb2 import FrameKey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings(THIRD_PARTY)]
SHORT = {"steps": 2, "epochs": None, "crop": 64, "batch": 4}
CANVAS = {"height": 64, "width": 96, "fill": 116}
TEACHERS = {"detect": "retinanet-r50", "segment": "deeplabv3-r50"}
COCO_LABELS = ["__background__", *(f"coco-{k}" for k in range(1, 91))]
VOC_LABELS = [f"voc-{k}" for k in range(21)]


def write_coco(folder: Path, count: int = 3) -> Path:
    """Photos with two boxes and a class mask each, as in the COCO tars."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    images, boxes = [], []
    for i in range(count):
        height, width = 80 + 16 * i, 128 - 16 * i
        Image.fromarray(smooth_photo(height, width, i)).save(folder / f"images/{i:012}.jpg")
        mask = np.zeros((height, width), np.uint8)
        mask[8:60, 10:70], mask[:4] = 1 + i, 255
        Image.fromarray(mask).save(folder / f"masks/{i:012}.png")
        images.append({"id": i, "file_name": f"{i:012}.jpg", "height": height, "width": width})
        for box in ([10, 8, 60, 52], [30, 20, 32, 30]):
            boxes.append({"id": len(boxes), "image_id": i, "category_id": 1 + i, "bbox": box, "area": 9.0})
    categories = [{"id": 1 + i, "name": COCO_LABELS[1 + i]} for i in range(count)]
    document = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


@dataclass(frozen=True)
class PaperRun:
    """Folders of the runs, the pack, and what training printed."""

    folder: Path
    data: Path
    printed: str

    @property
    def pack(self) -> Path:
        return self.folder / "pack"


@pytest.fixture(scope="module")
def paper_run(tmp_path_factory: pytest.TempPathFactory) -> PaperRun:
    folder = tmp_path_factory.mktemp("paper")
    data = write_coco(folder / "coco")
    codec = folder / "codec" / "final.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        for recipes, name in ((STAGE1, "paper-base-stage1"), (STAGE2, "retinanet"), (STAGE2, "deeplabv3")):
            patch.setitem(recipes, name, replace(recipes[name], **SHORT))
        patch.setattr(setting, "STATISTICS_BATCHES", 1)
        patch.setattr(build, "EXAMPLE", (2, 160, 96))
        common = ("--data", data, "--random-weights", "--no-compile")
        teacher = ("--teacher", "retinanet-r50", "--also", "deeplabv3-r50")
        words = ("train", "codec", "--recipe", "paper-base-stage1", *teacher, "--out", codec.parent)
        printed = command(*words, *common)
        for task, name in TEACHERS.items():
            losses = ("--losses", "paper" if task == "detect" else "practical")
            words = ("train", "prompt", "--teacher", name, "--codec", codec, "--out", folder / task, *losses)
            printed += command(*words, *common)
        export(folder, codec)
    for checkpoint in folder.rglob("checkpoint.safetensors"):
        checkpoint.unlink()  # half a gigabyte
    return PaperRun(folder, data, printed)


def export(folder: Path, codec: Path) -> None:
    """A pack of both tasks through the command line."""
    tasks = []
    for task, name in TEACHERS.items():
        labels = folder / f"{task}.txt"
        labels.write_text("\n".join(COCO_LABELS if task == "detect" else VOC_LABELS))
        run = folder / task / "final.safetensors"
        fit = "letterbox" if task == "detect" else "stretch"
        row = {"task": task, "teacher": name, "random_weights": True, "labels": str(labels), "run": str(run)}
        tasks.append({**row, "input": {**CANVAS, "fit": fit}})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    where = ("--codec", codec, "--out", folder / "pack")
    command("export", *where, "--tasks", folder / "tasks.json", "--sizes", "base", "--name", "paper-smoke")


def test_terms_of_both_kinds_of_losses_are_logged_and_costs_told(paper_run: PaperRun) -> None:
    terms = {
        "codec": {"bpp", "mse", "feature"},
        "detect": {"bpp", "mse", "kl", "bce", "box"},
        "segment": {"bpp", "feature", "deep", "kl"},
    }
    for stage, names in terms.items():
        first = json.loads((paper_run.folder / stage / "log.jsonl").read_text().splitlines()[0])
        assert set(first) == {"step", "progress", *names}
        assert all(np.isfinite(first[name]).all() for name in names)
        summary = json.loads((paper_run.folder / stage / "run.json").read_text())
        assert summary["step_seconds"] > 0
        assert summary["peak_bytes"] > 100 << 20, "PyTorch alone takes more"
    assert (
        json.loads((paper_run.folder / "detect" / "log.jsonl").read_text().splitlines()[0])["box"]
        != [0.0] * 4
    )


def test_tail_stays_the_teachers_and_the_prompt_moves(paper_run: PaperRun) -> None:
    state = load_file(str(paper_run.folder / "detect" / "final.safetensors"))
    assert state["prompt/branches.g_s.conv3.weight"].any()
    prompt = [value for name, value in state.items() if name.startswith("prompt/")]
    assert sum(value.numel() for value in prompt) < 300_000


async def test_a_real_cloud_answers_frames_of_both_tasks(paper_run: PaperRun, tmp_path: Path) -> None:
    pack = load_pack(paper_run.pack)
    assert {task: pack.task(task).postprocess for task in pack.tasks} == {
        "detect": "retinanet",
        "segment": "deeplab_centred",
    }
    encoder = FeatureEncoder(pack, engine="ort-cpu")
    runner = PackRunner([pack], "ort-cpu", 1, ResultLimits(score_threshold=0.0))
    async with running(tmp_path, runner) as cloud:  # type: ignore[arg-type]
        for seq, task in enumerate(TEACHERS):
            coded = encoder.compress(smooth_photo(64, 96, 3), pack.prompt(task), 1.0, (64, 96))
            frame = Frame(
                key=FrameKey(device="box", camera="door", seq=seq),
                capture_time_unix_nanos=CAPTURED + seq,
                task=task,
                bitstream=coded.data,
            )
            answer = (await cloud.ingest.Infer(InferRequest(frame=frame), timeout=PATIENCE_S)).result
            assert answer.task == task
            if task == "detect":
                assert answer.detections.items
                assert {found.label for found in answer.detections.items} <= set(COCO_LABELS)
            else:
                assert (answer.segmentation.height, answer.segmentation.width) == (64, 96)
                assert sum(answer.segmentation.run_lengths) == 64 * 96


def test_evaluation_sets_both_tasks_beside_their_whole_teachers(paper_run: PaperRun, tmp_path: Path) -> None:
    words: tuple[object, ...] = ("eval", "--pack", paper_run.pack, "--data", paper_run.data)
    for task, name in TEACHERS.items():
        file = tmp_path / f"{task}.onnx"
        postprocess = "retinanet" if task == "detect" else "deeplab_centred"
        command(
            "export-teacher",
            "--teacher",
            name,
            "--random-weights",
            "--postprocess",
            postprocess,
            "--out",
            file,
        )
        words += ("--task", task, "--teacher", f"{task}={file}")
    words += ("--rates", "0,3", "--no-anchors", "--student", "both", "--resamples", "2")
    command(*words, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [task["metric"] for task in report["tasks"]] == ["map", "miou"]
    for task in report["tasks"]:
        teacher, low, high, *pixels = task["rows"]
        assert teacher["codec"] == "teacher"
        assert [row["codec"] for row in pixels] == ["splitcodec-pixels"] * 2
        assert 0 < low["bytes_per_frame"] < high["bytes_per_frame"]
        assert all(0.0 <= row["accuracy"] <= 1.0 for row in task["rows"])

"""`splitcodec eval` as a whole: three tasks, one report."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny_pack
from evaluation_rig import (
    LABELS,
    coco_files,
    jpeg,
    mask_files,
    write_classifier,
    write_detector,
    write_segmenter,
    write_tar,
)
from numpy.typing import NDArray
from PIL import Image
from tiny_pack import write_three_tasks
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import DatasetError, SettingsError, UnknownTask
from splitcodec.evaluation.anchors import PillowAnchor
from splitcodec.evaluation.command import require_packages
from splitcodec.evaluation.report import read_report
from splitcodec.evaluation.run import chosen_tasks, open_scorer
from splitcodec.packs import load_pack

if TYPE_CHECKING:
    from splitcodec.packs import Pack

PAGE = Path(__file__).resolve().parent.parent / "docs" / "evaluation.md"
TARS = ("coco.tar", "photos.tar")
SIZES = [(96, 128), (128, 96), (64, 64), (70, 50)]


def bright(height: int, width: int) -> NDArray[np.uint8]:
    """The mask of `jpeg`'s square: class 1."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return mask


MASKS = mask_files({1: bright(*SIZES[0]), 3: bright(*SIZES[2])})


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages()
    monkeypatch.setattr("splitcodec.evaluation.command.NEEDED", ("numpy", "no_such_package"))
    with pytest.raises(SettingsError, match=r"no_such_package not installed; .*run: pip install"):
        require_packages()


@pytest.mark.parametrize("postprocess", ["yolox", "deeplab", "classify"])
def test_each_kind_of_answer_has_its_scorer(tmp_path: Path, postprocess: str) -> None:
    wanted = {"yolox": ("map", 4), "deeplab": ("miou", 2), "classify": ("agreement", 0)}[postprocess]
    path = write_tar(tmp_path / "d.tar", {**coco_files(SIZES, LABELS), **MASKS})
    section = (
        load_three(tmp_path).task("detect").model_copy(update={"postprocess": postprocess, "labels": LABELS})
    )
    with open_scorer(path, section, None) as scorer:
        assert (scorer.metric.key, scorer.truths, scorer.data) == (*wanted, "d.tar")


def test_answers_nobody_judges_are_refused(tmp_path: Path) -> None:
    section = load_three(tmp_path).task("detect").model_copy(update={"postprocess": "ocr"})
    with (
        pytest.raises(UnknownTask, match="nobody here judges 'ocr' answers"),
        open_scorer(tmp_path, section, None),
    ):
        pass


def test_all_means_every_task_and_a_task_counts_once(tmp_path: Path) -> None:
    pack = load_three(tmp_path)
    assert chosen_tasks(pack, ["all"]) == ["classify", "detect", "segment"]
    assert chosen_tasks(pack, ["segment", "detect", "segment"]) == ["segment", "detect"]
    with pytest.raises(UnknownTask):
        chosen_tasks(pack, ["detect", "sing"])


def load_three(folder: Path) -> "Pack":
    return write_three_tasks(folder / "tiny")


@dataclass(frozen=True)
class Desk:
    """A folder with the tiny pack of three tasks, data of each kind and a teacher for each."""

    root: Path

    @property
    def words(self) -> list[str]:
        """`splitcodec eval` on all of it."""
        given = ["eval", "--pack", str(self.root / "tiny"), "--task", "all"]
        for task in ("detect", "segment", "classify"):
            given += ["--teacher", f"{task}={self.root / task}.onnx"]
        coco, photos = self.root / "coco.tar", self.root / "photos.tar"
        given += ["--data", str(coco), "--data", f"classify={photos}", "--json", str(self.json)]
        return [*given, "--rates", "0,1.5", "--resamples", "20"]

    @property
    def json(self) -> Path:
        return self.root / "out" / "eval.json"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    root = tmp_path_factory.mktemp("desk")
    write_three_tasks(root / "tiny")
    write_tar(root / "coco.tar", {**coco_files(SIZES, tiny_pack.LABELS), **MASKS})
    names = ("n01440764_tench.jpg", "n02808440_bathtub.jpg", "n04493381_tub.jpg")
    write_tar(root / "photos.tar", {name: jpeg(70, 90) for name in names})
    write_detector(root / "detect.onnx", len(tiny_pack.LABELS))
    write_segmenter(root / "segment.onnx", len(tiny_pack.SEGMENT_LABELS))
    write_classifier(root / "classify.onnx", len(tiny_pack.CLASSIFY_LABELS))
    return Desk(root)


@pytest.mark.slow
def test_eval_measures_three_tasks_into_one_report(desk: Desk) -> None:
    result = CliRunner().invoke(app, [*desk.words, "--no-anchors"])
    assert result.exit_code == 0, result.output
    report = read_report(desk.json)
    assert report.pack.codec_digest == load_pack(desk.root / "tiny").codec_digest
    assert [(task.task, task.metric, task.frames, task.data.file) for task in report.tasks] == [
        ("classify", "top1", 3, "photos.tar"),
        ("detect", "map", 4, "coco.tar"),
        ("segment", "miou", 2, "coco.tar"),
    ]
    for task in report.tasks:
        assert [(row.codec, row.rate) for row in task.rows] == [
            ("teacher", None),
            ("splitcodec", 0.0),
            ("splitcodec", 1.5),
        ]
        assert all(0 <= row.accuracy <= 1 for row in task.rows)
    classify, _, segment = report.tasks
    # The classifier always says `tub, vat`, which one photo of three is; the segmenter sees what is bright.
    assert (classify.rows[0].accuracy, classify.rows[0].detail["agreement"]) == (pytest.approx(1 / 3), 1.0)
    assert segment.rows[0].accuracy > 0.6
    assert segment.rows[0].accuracy > segment.rows[1].accuracy
    for task in ("classify", "detect", "segment"):
        assert f"{task} on " in result.output
    header = desk.json.with_suffix(".csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith("drop_high,top5,agreement,map50,pixel_accuracy")
    with Image.open(desk.json.with_suffix(".png"), formats=["PNG"]) as plot:
        assert plot.width > 2.5 * plot.height


@pytest.mark.slow
def test_picture_codecs_stand_beside_every_task(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [PillowAnchor("jpeg", (10, 90), ()), PillowAnchor("webp", (50,), ())]
    monkeypatch.setattr("splitcodec.evaluation.anchor_choice.standard_anchors", lambda: few)
    result = CliRunner().invoke(app, desk.words)
    assert result.exit_code == 0, result.output
    for task in read_report(desk.json).tasks:
        others = [(row.codec, row.rate) for row in task.rows[3:]]
        assert others == [("jpeg", 10.0), ("jpeg", 90.0), ("webp", 50.0)]
        assert {(one.rate, one.anchor) for one in task.equal_accuracy} == {
            (rate, anchor) for rate in (0.0, 1.5) for anchor in ("jpeg", "webp")
        }


@pytest.mark.slow
def test_only_the_picture_codecs_named_are_measured_in_the_standard_order(desk: Desk) -> None:
    result = CliRunner().invoke(app, [*desk.words, "--anchors", "hevc-medium, jpeg"])
    assert result.exit_code == 0, result.output
    report = read_report(desk.json)
    for task in report.tasks:
        assert list(dict.fromkeys(row.codec for row in task.rows[3:])) == ["jpeg", "hevc-medium"]
    assert " --anchors hevc-medium,jpeg " in report.command


def test_an_unknown_picture_codec_is_refused_with_the_known_ones(desk: Desk) -> None:
    result = CliRunner().invoke(app, [*desk.words, "--anchors", "jpeg,hevc"])
    assert isinstance(result.exception, SettingsError)
    known = "jpeg, webp, avif, hevc-medium, hevc-slow, vvc"
    assert str(result.exception) == f"--anchors names ['hevc']; known: {known}"
    both = CliRunner().invoke(app, [*desk.words, "--anchors", "jpeg", "--no-anchors"])
    assert both.exit_code == 2


def test_pixels_of_a_pack_without_an_extractor_are_refused(desk: Desk) -> None:
    result = CliRunner().invoke(app, [*desk.words, "--no-anchors", "--student", "pixels"])
    assert isinstance(result.exception, SettingsError)
    assert "holds no picture extractor, which --student pixels needs" in str(result.exception)


def test_a_task_without_data_or_teacher_is_named(desk: Desk) -> None:
    words = desk.words
    cut = words.index("--data")
    no_detect_data = [*words[:cut], *words[cut + 2 :]]
    result = CliRunner().invoke(app, [*no_detect_data, "--no-anchors"])
    assert isinstance(result.exception, DatasetError)
    assert "no data for task" in str(result.exception)


@pytest.mark.slow
def test_the_commands_of_the_page_run(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [PillowAnchor("jpeg", (10, 90), ())]
    monkeypatch.setattr("splitcodec.evaluation.anchor_choice.standard_anchors", lambda: few)
    shutil.copytree(desk.root / "tiny", tmp_path / "packs" / "mine")
    named = {"yolox": "detect", "deeplab": "segment", "mobilenet": "classify"}
    for name, given in [*((f"{k}.onnx", f"{v}.onnx") for k, v in named.items()), *((t, t) for t in TARS)]:
        shutil.copy(desk.root / given, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    block, _ = blocks  # the second one is run by test_evaluation_clip
    for line in block.replace("\\\n", " ").splitlines():
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}: {result.output} {result.exception}"
    assert "segment on coco.tar: bytes per frame at equal mIoU" in result.output


@pytest.mark.slow
def test_eval_measures_the_pack_that_ships(tmp_path: Path, default_pack: "Pack") -> None:
    labels = default_pack.task("detect").labels
    data = write_tar(tmp_path / "data.tar", coco_files([(96, 128), (128, 96)], labels[:2]))
    teacher = write_detector(tmp_path / "teacher.onnx", len(labels))
    out = tmp_path / "out" / "eval.json"
    words = ["eval", "--data", str(data), "--teacher", str(teacher), "--json", str(out), "--no-anchors"]
    result = CliRunner().invoke(app, [*words, "--rates", "0,1.5", "--resamples", "20"])
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["pack"]["codec_digest"] == default_pack.codec_digest
    assert report["command"].endswith("--rates 0,1.5 --no-anchors --engine auto --resamples 20")
    assert report["provenance"]["commit"]
    (task,) = report["tasks"]
    assert (task["task"], task["frames"], task["truths"]) == ("detect", 2, 2)
    assert task["prompt_digest"] == default_pack.prompt("detect").digest
    coded = task["rows"][1]
    assert coded["bytes_per_frame"] > 48  # more than a header
    assert coded["bpp"] == pytest.approx(coded["bytes_per_frame"] * 2 * 8 / (2 * 96 * 128))


def test_eval_without_a_teacher_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITCODEC_TEACHER", raising=False)
    data = write_tar(tmp_path / "data.tar", coco_files([(64, 64)], ["person"]))
    result = CliRunner().invoke(app, ["eval", "--data", str(data), "--json", str(tmp_path / "e.json")])
    assert isinstance(result.exception, DatasetError)
    assert "give --teacher FILE.onnx" in str(result.exception)

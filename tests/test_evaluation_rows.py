"""From records to rows and the report, on a data set small enough to work out by hand."""

import csv
import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splitcodec.errors import RateOutOfRange, SettingsError
from splitcodec.evaluation.average_precision import FoundBoxes
from splitcodec.evaluation.bd_rate import CurvePoint
from splitcodec.evaluation.dataset import Category, Dataset, GroundTruth, Photo
from splitcodec.evaluation.detection import DetectionScorer
from splitcodec.evaluation.measure import Record
from splitcodec.evaluation.plot import OTHER_STYLE, PANEL, STYLES, draw_curves
from splitcodec.evaluation.report import (
    Convention,
    FileUnderTest,
    Row,
    TaskReport,
    describe,
    table,
    write_csv,
)
from splitcodec.evaluation.rows import bd_rates, curve_of, equal_accuracy, rows_of
from splitcodec.evaluation.run import EVERY, EvalOptions, command_line, default_rates, parse_rates, per_task

PHOTOS = 20
TASKS = (("detect", "mAP"), ("segment", "mIoU"), ("classify", "top-1"))


class OneBoxEach(Dataset):
    """PHOTOS photos of 100 x 50 pixels with one object of one class in the same place."""

    def __init__(self) -> None:
        self.name = "one box each"
        self.photos = tuple(Photo(k, f"{k}.jpg", 50, 100) for k in range(1, PHOTOS + 1))
        self.truths = tuple(
            GroundTruth(photo.photo_id, 1, (10.0, 10.0, 20.0, 20.0), 400.0, False) for photo in self.photos
        )
        self.categories = (Category(1, "cat"),)


def scorer() -> DetectionScorer:
    return DetectionScorer(OneBoxEach(), ["cat"])


def record(codec: str, rate: float | None, hits: int, num_bytes: list[int]) -> Record[FoundBoxes]:
    """Finds the object on the first `hits` photos and nothing else."""
    box = np.array([[10, 10, 30, 30]], np.float32)
    seen = [
        FoundBoxes(photo, box[:found], np.array([0.9], np.float32)[:found], np.array([1])[:found])
        for photo in range(1, PHOTOS + 1)
        for found in [photo <= hits]
    ]
    return Record(codec, rate, num_bytes, seen)


def row(codec: str, num_bytes: float | None, accuracy: float, rate: float | None = 1.0) -> Row:
    """A row with only what curves and tables need."""
    return Row(codec, rate, num_bytes, num_bytes, None, accuracy, 0.5 - accuracy, 0.0, 0.0, {"map50": 0.625})


def report_of(task: str, metric: str, rows: list[Row]) -> TaskReport:
    """A task's report around some rows."""
    convention = Convention("", "", "", "", "", "", {})
    data, teacher = FileUnderTest("photos.tar", ""), FileUnderTest("net.onnx", "")
    return TaskReport(task, metric, metric, "", data, PHOTOS, PHOTOS, teacher, convention, rows, [], [])


def test_bytes_and_bits_per_original_pixel() -> None:
    sizes = list(range(100, 100 + PHOTOS))
    teacher, coded = rows_of(
        scorer(),
        [record("teacher", None, PHOTOS, []), record("splitcodec", 0.5, PHOTOS, sizes)],
        resamples=10,
    )
    assert (teacher.bytes_per_frame, teacher.bytes_p95, teacher.bpp) == (None, None, None)
    assert coded.bytes_per_frame == pytest.approx(109.5)
    assert coded.bytes_p95 == pytest.approx(118.05)
    assert coded.bpp == pytest.approx(109.5 * 8 / 5000)
    assert (coded.codec, coded.rate) == ("splitcodec", 0.5)


def test_the_drop_is_against_the_teacher_and_lies_in_its_interval() -> None:
    half = record("jpeg", 10, PHOTOS // 2, [1] * PHOTOS)
    teacher, coded = rows_of(scorer(), [record("teacher", None, PHOTOS, []), half], resamples=400)
    assert (teacher.accuracy, teacher.drop, teacher.drop_low, teacher.drop_high) == (1.0, 0.0, 0.0, 0.0)
    assert coded.accuracy == pytest.approx(51 / 101)  # recall reaches 0.5 at precision 1
    assert coded.drop == pytest.approx(1 - 51 / 101)
    assert coded.drop_low < coded.drop < coded.drop_high
    # recall on 20 drawn photos is binomial with standard deviation 0.112
    assert coded.drop_high - coded.drop_low == pytest.approx(4 * 0.112, rel=0.2)


def test_the_same_mistakes_give_no_drop_and_no_spread() -> None:
    first, second = (record(name, None, PHOTOS // 2, []) for name in ("teacher", "same"))
    _, same = rows_of(scorer(), [first, second], resamples=50)
    assert (same.drop, same.drop_low, same.drop_high) == (0.0, 0.0, 0.0)


def test_curves_and_equal_accuracy_leave_the_teacher_out() -> None:
    rows = [
        row("teacher", None, 0.5, None),
        row("splitcodec", 1000, 0.3, 0.0),
        row("splitcodec", 2000, 0.4, 1.0),
        row("jpeg", 4000, 0.3),
        row("jpeg", 8000, 0.4),
        row("avif", 3000, 0.35),
        row("avif", 6000, 0.45),
    ]
    assert curve_of(rows, "splitcodec") == [CurvePoint(1000, 0.3), CurvePoint(2000, 0.4)]
    jpeg, avif = bd_rates(rows, "splitcodec")
    assert (jpeg.anchor, avif.anchor) == ("jpeg", "avif")
    assert jpeg.percent == pytest.approx(-75.0)
    needed = {(item.rate, item.anchor): item.anchor_bytes for item in equal_accuracy(rows, "splitcodec")}
    assert needed[0.0, "jpeg"] == pytest.approx(4000)
    assert needed[1.0, "jpeg"] == pytest.approx(8000)
    assert needed[0.0, "avif"] is None
    assert needed[1.0, "avif"] == pytest.approx(3000 * 2**0.5)
    assert describe(jpeg) == "BD-rate against jpeg: -75.0 % bytes (pchip, overlap 100%)"


def test_the_detail_of_a_detection_is_its_map_at_half_overlap() -> None:
    (teacher,) = rows_of(scorer(), [record("teacher", None, PHOTOS, [])], resamples=2)
    assert teacher.detail == {"map50": 1.0}


def test_csv_and_table_hold_every_row_of_every_task(tmp_path: Path) -> None:
    detect = report_of("detect", "map", [row("teacher", None, 0.5, None), row("jpeg", 4000, 0.25)])
    segment = report_of("segment", "miou", [replace(row("splitcodec", 900, 0.4), detail={"share": 0.75})])
    write_csv([detect, segment], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    fixed = [field.name for field in dataclasses.fields(Row) if field.name != "detail"]
    assert list(read[0]) == ["task", "metric", *fixed, "map50", "share"]
    shown = ("task", "metric", "codec", "bytes_per_frame", "accuracy", "map50", "share")
    assert [tuple(line[name] for name in shown) for line in read] == [
        ("detect", "map", "teacher", "", "0.5", "0.625", ""),
        ("detect", "map", "jpeg", "4000", "0.25", "0.625", ""),
        ("segment", "miou", "splitcodec", "900", "0.4", "", "0.75"),
    ]
    head, *lines = table(detect).splitlines()
    assert head.split()[:7] == ["codec", "rate", "bytes", "p95", "bpp", "map", "map50"]
    assert lines[1].split()[:6] == ["jpeg", "1", "4000", "4000", "0.2500", "0.6250"]
    assert "+25.00 [+0.00, +0.00]" in lines[1]


@pytest.mark.slow
def test_the_plot_has_one_panel_per_task(tmp_path: Path) -> None:
    rows = [row("teacher", None, 0.5, None), row("splitcodec", 1000, 0.3), row("unheard-of", 900, 0.2)]
    tasks = [report_of(task, metric, rows) for task, metric in TASKS]
    for count in (1, 3):
        draw_curves(tasks[:count], tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png", formats=["PNG"]) as plot:
            assert plot.size == (round(PANEL[0] * 150) * count, round(PANEL[1] * 150))
            panels = np.asarray(plot.convert("RGB"))
        for part in np.split(panels, count, axis=1):
            assert holds_colour(part, STYLES["splitcodec"][0])
            assert holds_colour(part, OTHER_STYLE[0])
            assert not holds_colour(part, STYLES["jpeg"][0])


def holds_colour(pixels: np.ndarray, colour: str) -> bool:
    """Whether some pixel is just that, #rrggbb."""
    return bool((pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=2).any())


def test_rates_are_read_and_have_midpoints_by_default() -> None:
    assert parse_rates(" ") is None
    assert parse_rates("0, 0.5,3") == (0.0, 0.5, 3.0)
    assert default_rates(4) == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    assert default_rates(1) == (0.0,)
    with pytest.raises(RateOutOfRange, match="write them like"):
        parse_rates("low")


def options(**fields: object) -> EvalOptions:
    given = {
        "pack": "default",
        "tasks": ("detect",),
        "data": {EVERY: Path("/home/me/coco test.tar")},
        "teachers": {EVERY: Path("/nets/teacher.onnx")},
        "classes": None,
        "json": Path("/out/eval.json"),
        "rates": (0.0, 0.5),
        "anchors": (),
        "engine": "auto",
        "threads": 1,
        "resamples": 1000,
        **fields,
    }
    return EvalOptions(**given)  # type: ignore[arg-type]


def test_the_command_in_the_report_names_files_but_no_folders() -> None:
    assert command_line(options()) == (
        "splitcodec eval --pack default --task detect --data 'coco test.tar' --teacher teacher.onnx"
        " --json eval.json --rates 0,0.5 --no-anchors --engine auto --resamples 1000"
    )
    several = options(
        tasks=("detect", "classify"),
        data={"detect": Path("/a/coco.tar"), "classify": Path("/b/photos")},
        teachers={"detect": Path("/a/yolox.onnx"), EVERY: Path("/b/net.onnx")},
        classes=Path("/c/classes.csv"),
        rates=None,
        anchors=None,
    )
    assert command_line(several) == (
        "splitcodec eval --pack default --task detect --task classify --data detect=coco.tar"
        " --data classify=photos --teacher detect=yolox.onnx --teacher net.onnx --json eval.json"
        " --classes classes.csv --engine auto --resamples 1000"
    )


def test_the_command_in_the_report_names_the_forms_and_picture_codecs_asked_for() -> None:
    line = command_line(options(student="both", anchors=("jpeg", "hevc-slow")))
    assert " --student both --anchors jpeg,hevc-slow --engine" in line


def test_an_option_may_be_for_every_task_or_for_one() -> None:
    assert per_task(["a/b.tar"], "--data") == {EVERY: Path("a/b.tar")}
    assert per_task(["segment=s.tar", "x.tar"], "--data") == {"segment": Path("s.tar"), EVERY: Path("x.tar")}
    assert per_task(["/odd=place/x.tar"], "--data") == {EVERY: Path("/odd=place/x.tar")}
    with pytest.raises(SettingsError, match="--data is given twice for segment"):
        per_task(["segment=a", "segment=b"], "--data")
    with pytest.raises(SettingsError, match="--teacher is given twice for every task"):
        per_task(["a", "b"], "--teacher")

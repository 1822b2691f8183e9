"""From records to rows and the report, on a data set small enough to work out by hand."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from splitcodec.errors import RateOutOfRange
from splitcodec.evaluation.average_precision import FoundBoxes
from splitcodec.evaluation.bd_rate import CurvePoint
from splitcodec.evaluation.dataset import Category, Dataset, GroundTruth, Photo
from splitcodec.evaluation.measure import Record
from splitcodec.evaluation.plot import draw_curves
from splitcodec.evaluation.report import describe, table, write_csv
from splitcodec.evaluation.rows import Row, bd_rates, curve_of, equal_accuracy, rows_of
from splitcodec.evaluation.run import EvalOptions, command_line, default_rates, parse_rates

PHOTOS = 20


class OneBoxEach(Dataset):
    """PHOTOS photos of 100 x 50 pixels with one object of one class in the same place."""

    def __init__(self) -> None:
        self.name = "one box each"
        self.photos = tuple(Photo(k, f"{k}.jpg", 50, 100) for k in range(1, PHOTOS + 1))
        self.truths = tuple(
            GroundTruth(photo.photo_id, 1, (10.0, 10.0, 20.0, 20.0), 400.0, False) for photo in self.photos
        )
        self.categories = (Category(1, "cat"),)


def record(codec: str, rate: float | None, hits: int, num_bytes: list[int]) -> Record:
    """Finds the object on the first `hits` photos and nothing else."""
    box = np.array([[10, 10, 30, 30]], np.float32)
    found = [
        FoundBoxes(photo, box, np.array([0.9], np.float32), np.array([1])) for photo in range(1, hits + 1)
    ]
    return Record(codec, rate, num_bytes, found)


def row(codec: str, num_bytes: float | None, accuracy: float, rate: float | None = 1.0) -> Row:
    """A row with only what curves need."""
    return Row(codec, rate, num_bytes, num_bytes, None, accuracy, accuracy, 0.0, 0.0, 0.0)


def test_bytes_and_bits_per_original_pixel() -> None:
    sizes = list(range(100, 100 + PHOTOS))
    teacher, coded = rows_of(
        OneBoxEach(),
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
    teacher, coded = rows_of(OneBoxEach(), [record("teacher", None, PHOTOS, []), half], resamples=400)
    assert (teacher.map, teacher.drop, teacher.drop_low, teacher.drop_high) == (1.0, 0.0, 0.0, 0.0)
    assert coded.map == pytest.approx(51 / 101)  # recall reaches 0.5 at precision 1
    assert coded.drop == pytest.approx(1 - 51 / 101)
    assert coded.drop_low < coded.drop < coded.drop_high
    # recall on 20 drawn photos is binomial with standard deviation 0.112
    assert coded.drop_high - coded.drop_low == pytest.approx(4 * 0.112, rel=0.2)


def test_the_same_mistakes_give_no_drop_and_no_spread() -> None:
    first, second = (record(name, None, PHOTOS // 2, []) for name in ("teacher", "same"))
    _, same = rows_of(OneBoxEach(), [first, second], resamples=50)
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


def test_csv_and_table_hold_every_row(tmp_path: Path) -> None:
    rows = [row("teacher", None, 0.5, None), row("jpeg", 4000, 0.25)]
    write_csv(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert list(read[0]) == [field.name for field in dataclasses.fields(Row)]
    assert [(line["codec"], line["bytes_per_frame"], line["map"]) for line in read] == [
        ("teacher", "", "0.5"),
        ("jpeg", "4000", "0.25"),
    ]
    text = table(rows)
    assert len(text.splitlines()) == 3
    assert "4000" in text


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    rows = [row("teacher", None, 0.5, None), row("splitcodec", 1000, 0.3), row("unheard-of", 900, 0.2)]
    draw_curves(rows, "a title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_rates_are_read_and_have_midpoints_by_default() -> None:
    assert parse_rates(" ") is None
    assert parse_rates("0, 0.5,3") == (0.0, 0.5, 3.0)
    assert default_rates(4) == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    assert default_rates(1) == (0.0,)
    with pytest.raises(RateOutOfRange, match="write them like"):
        parse_rates("low")


def test_the_command_in_the_report_names_files_but_no_folders() -> None:
    options = EvalOptions(
        "default",
        "detect",
        Path("/home/me/coco test.tar"),
        Path("/nets/teacher.onnx"),
        Path("/out/eval.json"),
        (0.0, 0.5),
        False,
        "auto",
        1,
        1000,
    )
    assert command_line(options) == (
        "splitcodec eval --pack default --task detect --data 'coco test.tar' --json eval.json"
        " --teacher teacher.onnx --rates 0,0.5 --no-anchors --engine auto --resamples 1000"
    )
    assert "/" not in json.dumps(command_line(options))

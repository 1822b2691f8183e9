"""`splitcodec eval --compare`: bytes at equal accuracy of several reports, and reports it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_rig import task_report, write_eval_report
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import DatasetError
from splitcodec.evaluation.compare import compare_reports, unique_names
from splitcodec.evaluation.report import Row

Curve = list[tuple[float, float]]


def row(codec: str, rate: float | None, num_bytes: float | None, accuracy: float) -> Row:
    return Row(codec, rate, num_bytes, num_bytes, None, accuracy, 0.0, 0.0, 0.0, {})


def write_report(
    path: Path, curve: Curve, task: str = "detect", data: str = "coco.tar", frames: int = 80
) -> Path:
    rows = [row("teacher", None, None, 0.4), row("jpeg", 30.0, 9000.0, 0.3)]
    rows += [row("splitcodec", float(k), size, accuracy) for k, (size, accuracy) in enumerate(curve)]
    path.parent.mkdir(exist_ok=True)
    section = task_report(task, ("map", "mAP"), rows, data=data, frames=frames)
    return write_eval_report(path, "x", "11", [section])


def test_table_has_each_row_and_what_the_others_need_for_it(tmp_path: Path) -> None:
    base = write_report(tmp_path / "base.json", [(1000, 0.1), (2000, 0.2), (4000, 0.3)])
    double = write_report(tmp_path / "double.json", [(2000, 0.1), (4000, 0.2), (8000, 0.3)])
    low = write_report(tmp_path / "low.json", [(1000, 0.05), (2000, 0.15)])
    result = CliRunner().invoke(app, ["eval", "--compare", str(base), str(double), str(low)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "detect on coco.tar: bytes per frame at equal mAP"
    assert lines[2] == "| rate | mAP | base | double | low |"
    assert lines[4].startswith("| 0 | 0.100 | 1000 | 2000 | 1")
    assert lines[5] == "| 1 | 0.200 | 2000 | 4000 | - |", "low never gets there"
    assert lines[7].startswith("| BD-rate | | 0 | +100.0 % |")


def test_reports_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "a/eval.json", tmp_path / "b/eval.json", tmp_path / "b/other.json"]
    assert unique_names(paths) == ["a/eval", "b/eval", "other"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "other.tar"}, "second has map of detect on 80 photos of other.tar, first has map on 80"),
        ({"frames": 12}, "on 12 photos of coco.tar"),
        ({"task": "segment"}, "no task is in all of these reports"),
    ],
)
def test_reports_on_different_things_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    first = write_report(tmp_path / "first.json", [(1000, 0.1), (2000, 0.2)])
    second = write_report(tmp_path / "second.json", [(1000, 0.1), (2000, 0.2)], **change)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=message):
        compare_reports([first, second])


def test_one_report_and_no_report_are_refused(tmp_path: Path) -> None:
    one = write_report(tmp_path / "one.json", [(1000, 0.1)])
    with pytest.raises(DatasetError, match="1 reports cannot be compared; name two or more"):
        compare_reports([one])
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"bad\.json is no report"):
        compare_reports([one, tmp_path / "bad.json"])

"""The report of one evaluation run: as JSON, there and back, as CSV and terminal text."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from splitcodec.errors import DatasetError
from splitcodec.evaluation.bd_rate import BdRate
from splitcodec.evaluation.codec_system import CODEC_NAME, PIXELS_NAME
from splitcodec.provenance import RunOrigin

REPORT_VERSION: Final = 2


@dataclass(frozen=True)
class PackUnderTest:
    """Which weights were measured: codec_digest is SHA-256 in hex; engine: as asked for."""

    name: str
    codec_digest: str
    engine: str


@dataclass(frozen=True)
class FileUnderTest:
    """A file the numbers depend on: its name (no folder) and SHA-256 in hex (empty for a folder)."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Convention:
    """How the figures were made, for those who want the same ones."""

    metric: str
    size: str
    answers: str
    bytes: str
    bpp: str
    drop: str
    anchors: dict[str, str]


@dataclass(frozen=True)
class Row:
    """One operating point on one data set.

    bytes_per_frame: mean, bytes_p95: 95th percentile, of real bytes; bpp: all bits over all pixels of the
    original photos; None for the teacher, which codes nothing. accuracy: the task's metric, in [0, 1].
    drop: the teacher's accuracy minus this one; drop_low, drop_high: its 95 % percentile interval over paired
    resamples of the photos. detail: further figures of the same answers, by name.
    """

    codec: str
    rate: float | None
    bytes_per_frame: float | None
    bytes_p95: float | None
    bpp: float | None
    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    detail: dict[str, float]


@dataclass(frozen=True)
class EqualAccuracy:
    """Bytes a picture codec needs for the accuracy of one row of ours; None where it does not reach it."""

    rate: float
    accuracy: float
    num_bytes: float
    anchor: str
    anchor_bytes: float | None


@dataclass(frozen=True)
class TaskReport:
    """One task on one data set.

    metric: what `accuracy` is, map, miou, top1 or agreement; metric_name: for people; prompt_digest: SHA-256
    in hex; truths: number of annotations.
    """

    task: str
    metric: str
    metric_name: str
    prompt_digest: str
    data: FileUnderTest
    frames: int
    truths: int
    teacher: FileUnderTest
    convention: Convention
    rows: Sequence[Row]
    bd_rate: Sequence[BdRate]
    equal_accuracy: Sequence[EqualAccuracy]

    @property
    def ours(self) -> list[Row]:
        """Rows of the codec under test, in rate order; the pixel form's if nothing else was measured."""
        feature = [row for row in self.rows if row.codec == CODEC_NAME]
        return feature or [row for row in self.rows if row.codec == PIXELS_NAME]


@dataclass(frozen=True)
class Report:
    """Everything one run of `splitcodec eval` found."""

    report_version: Literal[2]
    command: str
    pack: PackUnderTest
    provenance: RunOrigin
    seconds: float
    tasks: Sequence[TaskReport]


def write_json(report: Report, path: Path) -> None:
    """The whole report; NaN never occurs, missing figures are null."""
    text = json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """A report written by `splitcodec eval`; DatasetError if it is not one."""
    try:
        return TypeAdapter(Report).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.name} is no report of `splitcodec eval`: {error}") from error


def write_csv(tasks: Sequence[TaskReport], path: Path) -> None:
    """One line per row under a header of its field names; missing figures are empty, details come last."""
    fixed = [field.name for field in dataclasses.fields(Row) if field.name != "detail"]
    details = list(dict.fromkeys(name for task in tasks for row in task.rows for name in row.detail))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["task", "metric", *fixed, *details])
        writer.writeheader()
        for task in tasks:
            for row in task.rows:
                values = {name: getattr(row, name) for name in fixed}
                writer.writerow({"task": task.task, "metric": task.metric, **values, **row.detail})


def title(task: TaskReport) -> str:
    """One line on what was measured."""
    return f"{task.task} on {task.data.file}: {task.frames} photos, {task.truths} annotations"


def table(task: TaskReport) -> str:
    """Rows as aligned text for a terminal; drops in points (hundredths) of the metric."""
    details = list(task.rows[0].detail) if task.rows else []
    wide = max((len(row.codec) for row in task.rows), default=0) + 1
    head = f"{'codec':<{wide}}{'rate':>6}{'bytes':>9}{'p95':>9}{'bpp':>8}{task.metric_name:>10}"
    head += "".join(f"{name:>15}" for name in details)
    lines = [f"{head}  drop in points (95 %)"]
    for row in task.rows:
        rate = "" if row.rate is None else f"{row.rate:g}"
        size = "" if row.bytes_per_frame is None else f"{row.bytes_per_frame:.0f}"
        p95 = "" if row.bytes_p95 is None else f"{row.bytes_p95:.0f}"
        bpp = "" if row.bpp is None else f"{row.bpp:.4f}"
        more = "".join(f"{row.detail[name]:>15.4f}" for name in details)
        interval = f"{100 * row.drop:+6.2f} [{100 * row.drop_low:+.2f}, {100 * row.drop_high:+.2f}]"
        lines.append(
            f"{row.codec:<{wide}}{rate:>6}{size:>9}{p95:>9}{bpp:>8}{row.accuracy:>10.4f}{more}  {interval}"
        )
    return "\n".join(lines)


def describe(delta: BdRate) -> str:
    """One line on a BD-rate, with what limits it."""
    value = "not comparable" if delta.percent is None else f"{delta.percent:+.1f} % bytes"
    note = f"; {delta.note}" if delta.note else ""
    return (
        f"BD-rate against {delta.anchor}: {value} ({delta.interpolator}, overlap {delta.overlap:.0%}){note}"
    )

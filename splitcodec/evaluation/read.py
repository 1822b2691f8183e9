"""Reports of `splitcodec eval`, read back for pages, packs and comparisons; what is not shown is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from splitcodec.errors import DatasetError
from splitcodec.evaluation.codec_system import CODEC_NAME, PIXELS_NAME
from splitcodec.evaluation.pages import Shown


class ShownRow(Shown):
    """One row of the report; see evaluation.rows.Row."""

    codec: str
    rate: float | None
    bytes_per_frame: float | None
    bpp: float | None
    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    detail: dict[str, float]


class ShownEqual(Shown):
    """Bytes an anchor needs for the accuracy of our row at `rate`."""

    rate: float
    anchor: str
    anchor_bytes: float | None


class ShownPack(Shown):
    """The pack that was measured; digest: SHA-256 in hex."""

    name: str
    codec_digest: str


class ShownData(Shown):
    """The data set's file name."""

    file: str


class ShownTask(Shown):
    """One task of a report; see evaluation.report.TaskReport."""

    task: str
    metric: str
    metric_name: str
    prompt_digest: str
    data: ShownData
    frames: int
    rows: tuple[ShownRow, ...]
    equal_accuracy: tuple[ShownEqual, ...]

    @property
    def ours(self) -> list[ShownRow]:
        """Rows of the codec under test, in rate order; the pixel form's if nothing else was measured."""
        feature = [row for row in self.rows if row.codec == CODEC_NAME]
        return feature or [row for row in self.rows if row.codec == PIXELS_NAME]


class ShownReport(Shown):
    """The parts of a report that are shown."""

    report_version: Literal[2]
    command: str
    pack: ShownPack
    tasks: tuple[ShownTask, ...]


def read_report(path: Path) -> ShownReport:
    """A report written by `splitcodec eval`; DatasetError if it is not one."""
    try:
        return ShownReport.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path.name} is no report of `splitcodec eval`: {error}") from error

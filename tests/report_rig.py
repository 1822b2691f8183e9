"""For tests of what reads reports: whole reports of `splitcodec eval` with figures made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitcodec.evaluation.report import (
    REPORT_VERSION,
    Convention,
    EqualAccuracy,
    FileUnderTest,
    PackUnderTest,
    Report,
    Row,
    TaskReport,
    write_json,
)
from splitcodec.provenance import RunOrigin

ORIGIN = RunOrigin("0" * 40, "2026-01-01T00:00:00+00:00", "a processor", 2, "3.11.0", {})
CONVENTION = Convention("", "", "", "", "", "", {})


def task_report(
    task: str,
    metric: tuple[str, str],
    rows: Sequence[Row],
    *,
    data: str,
    frames: int,
    prompt_digest: str = "00",
    equal_accuracy: Sequence[EqualAccuracy] = (),
) -> TaskReport:
    """metric: its key and its name; data: the data set's file name."""
    return TaskReport(
        task=task,
        metric=metric[0],
        metric_name=metric[1],
        prompt_digest=prompt_digest,
        data=FileUnderTest(data, ""),
        frames=frames,
        truths=frames,
        teacher=FileUnderTest("teacher.onnx", ""),
        convention=CONVENTION,
        rows=rows,
        bd_rate=[],
        equal_accuracy=equal_accuracy,
    )


def write_eval_report(path: Path, pack: str, codec_digest: str, tasks: Sequence[TaskReport]) -> Path:
    """As `splitcodec eval` writes it."""
    command = " ".join(["splitcodec eval", *(f"--task {task.task}" for task in tasks)])
    under_test = PackUnderTest(pack, codec_digest, "auto")
    write_json(Report(REPORT_VERSION, command, under_test, ORIGIN, 1.0, tasks), path)
    return path

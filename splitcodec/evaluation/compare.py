"""`splitcodec eval --compare A B ...`: bytes at equal accuracy of several measured packs, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitcodec.errors import DatasetError
from splitcodec.evaluation.bd_rate import CurvePoint, bd_rate, bytes_at
from splitcodec.evaluation.report import TaskReport, read_report

FEWEST = 2


def compare_reports(paths: Sequence[Path]) -> list[str]:
    """For each task of the first report, a table in Markdown: its rows, and what the others need for them.

    DatasetError: fewer than two reports, no task in all of them, or other data or another metric in one.
    """
    if len(paths) < FEWEST:
        raise DatasetError(f"{len(paths)} reports cannot be compared; name two or more")
    reports = [read_report(path) for path in paths]
    by_task = [{task.task: task for task in report.tasks} for report in reports]
    common = [task for task in by_task[0] if all(task in tasks for tasks in by_task)]
    if not common:
        raise DatasetError("no task is in all of these reports; measure the same tasks")
    names = unique_names(paths)
    lines: list[str] = []
    for task in common:
        lines += [*compare_task(names, [tasks[task] for tasks in by_task]), ""]
    return lines[:-1]


def compare_task(names: Sequence[str], tasks: Sequence[TaskReport]) -> list[str]:
    """One task's table: each row of the first report, and the bytes every other needs for its accuracy."""
    first = tasks[0]
    for name, task in zip(names, tasks, strict=True):
        if (task.data.file, task.metric, task.frames) != (first.data.file, first.metric, first.frames):
            raise DatasetError(
                f"{name} has {task.metric} of {task.task} on {task.frames} photos of {task.data.file}, "
                f"{names[0]} has {first.metric} on {first.frames} of {first.data.file}; measure both on one"
            )
    curves = [_curve(task) for task in tasks]
    lines = [
        f"{first.task} on {first.data.file}: bytes per frame at equal {first.metric_name}",
        "",
        f"| rate | {first.metric_name} |" + "".join(f" {name} |" for name in names),
        "|---" * (2 + len(names)) + "|",
    ]
    for row in first.ours:
        needed = [row.bytes_per_frame, *(bytes_at(curve, row.accuracy) for curve in curves[1:])]
        cells = "".join(f" {'-' if value is None else f'{value:.0f}'} |" for value in needed)
        lines.append(f"| {row.rate:g} | {row.accuracy:.3f} |{cells}")
    deltas = [bd_rate(curve, curves[0], names[0]).percent for curve in curves[1:]]
    shown = "".join(f" {'-' if delta is None else f'{delta:+.1f} %'} |" for delta in deltas)
    return [*lines, f"| BD-rate | | 0 |{shown}"]


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names without their endings; with their folder where two are alike."""
    stems = [path.stem for path in paths]
    return [f"{path.parent.name}/{path.stem}" if stems.count(path.stem) > 1 else path.stem for path in paths]


def _curve(task: TaskReport) -> list[CurvePoint]:
    return [
        CurvePoint(row.bytes_per_frame, row.accuracy) for row in task.ours if row.bytes_per_frame is not None
    ]

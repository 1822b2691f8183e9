"""Where measured numbers are shown: README tables and pack card come from reports, never by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from splitcodec.bench.latency_page import latency_table, read_latency
from splitcodec.errors import DatasetError
from splitcodec.evaluation.codec_system import CODEC_NAME
from splitcodec.evaluation.pages import with_block
from splitcodec.evaluation.report import Report, Row, TaskReport, read_report
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.schema import MODEL_CARD_FILE, MeasuredRow
from splitcodec.packs.write import with_measured

LATENCY = "latency"  # name of the block in docs/operations.md


def block_name(task: str) -> str:
    """Name of a task's table in README.md."""
    return f"table-{task}"


def markdown_table(report: Report, task: TaskReport, report_file: str) -> str:
    """Our rate points beside the bytes each picture codec needs for the same accuracy, with their source."""
    anchors = list(dict.fromkeys(item.anchor for item in task.equal_accuracy))
    needed = {(item.rate, item.anchor): item.anchor_bytes for item in task.equal_accuracy}
    metric, teacher = task.metric_name, task.rows[0]
    details = list(teacher.detail) if task.metric != "map" else []
    lines = [
        f"Task `{task.task}` on {task.frames} photos of `{task.data.file}`: real bytes, {metric},",
        f"paired drop in points from the uncompressed teacher ({metric} {teacher.accuracy:.3f}) with its",
        "95 % bootstrap interval, and the bytes a picture codec needs in front of the teacher for as much.",
        "",
        f"| rate | bytes/frame | {metric} | drop |"
        + "".join(f" {name.replace('_', ' ')} |" for name in details)
        + "".join(f" {anchor} bytes |" for anchor in anchors),
        "|---" * (4 + len(details) + len(anchors)) + "|",
    ]
    for row in task.ours:
        cells = [f"{row.rate:g}", f"{row.bytes_per_frame:.0f}", f"{row.accuracy:.3f}", _drop(row)]
        cells += [f"{row.detail[name]:.3f}" for name in details]
        cells += [_bytes(needed.get((row.rate or 0.0, anchor))) for anchor in anchors]
        lines.append("| " + " | ".join(cells) + " |")
    digests = f"codec `{report.pack.codec_digest[:16]}`, prompt `{task.prompt_digest[:16]}`"
    lines += ["", f"Source: [{report_file}]({report_file}), `{report.command}`, {digests}."]
    return "\n".join(lines)


def _drop(row: Row) -> str:
    return f"{100 * row.drop:.1f} [{100 * row.drop_low:.1f}, {100 * row.drop_high:.1f}]"


def _bytes(value: float | None) -> str:
    """A dash where the anchor's measured range does not reach that accuracy from both sides."""
    return "-" if value is None else f"{value:.0f}"


def with_rows(card: str, reports: Sequence[Report]) -> str:
    """The card with a table of measured operating points, replacing an earlier one."""
    head = card.split("\n## Measured\n")[0].rstrip("\n")
    digest = reports[0].pack.codec_digest[:16]
    lines = ["", "", "## Measured", *(f"`{report.command}`, pack {digest}" for report in reports), ""]
    lines += ["| task | data | rate | bytes/frame | bpp | metric | value | drop |", "|---" * 8 + "|"]
    for task in (task for report in reports for task in report.tasks):
        for row in task.ours:
            lines.append(
                f"| {task.task} | {task.data.file} | {row.rate:g} | {row.bytes_per_frame:.0f} "
                f"| {row.bpp:.3f} | {task.metric_name} | {row.accuracy:.3f} | {row.drop:+.3f} |"
            )
    return head + "\n".join([*lines, ""])


def measured_rows(reports: Sequence[Report]) -> tuple[MeasuredRow, ...]:
    """Our rows as a pack's manifest holds them."""
    return tuple(
        MeasuredRow(
            task=task.task,
            data=task.data.file,
            frames=task.frames,
            rate=row.rate or 0.0,
            bytes_per_frame=row.bytes_per_frame or 0.0,
            bpp=row.bpp or 0.0,
            metrics={task.metric: row.accuracy, **row.detail, "drop": row.drop},
        )
        for report in reports
        for task in report.tasks
        for row in task.ours
    )


def check_reports(pack: Pack, named: Sequence[tuple[Path, Report]]) -> None:
    """DatasetError unless the reports measured these weights, and every task once with its tail."""
    for path, report in named:
        if report.pack.codec_digest != pack.codec_digest:
            raise _other_weights(path, "codec", report.pack.codec_digest, pack.codec_digest)
        for task in report.tasks:
            if task.prompt_digest != (held := pack.prompt(task.task).digest):
                raise _other_weights(path, f"prompt of {task.task}", task.prompt_digest, held)
            if all(row.codec != CODEC_NAME for row in task.rows):
                raise DatasetError(
                    f"{path.name} measured {task.task} as pixels alone; measure --student feature or both"
                )
    measured = sorted(task.task for _, report in named for task in report.tasks)
    if measured != list(pack.tasks):
        raise DatasetError(
            f"the reports measured {measured}, the pack has {list(pack.tasks)}; each once, please"
        )


def _other_weights(path: Path, what: str, measured: str, held: str) -> DatasetError:
    return DatasetError(
        f"{path.name} measured {what} {measured[:16]}, the pack holds {held[:16]}; measure that pack first"
    )


def publish_command(
    report: Annotated[list[Path], typer.Option(help="Report of `splitcodec eval`; may be repeated.")],
    latency: Annotated[Path, typer.Option(help="Report of `splitcodec bench latency`.")],
    root: Annotated[Path, typer.Option(help="Source folder, with README.md and docs/.")],
    pack: Annotated[Path, typer.Option(help="Pack folder whose measured rows and card are replaced.")],
) -> None:
    """Write the numbers of reports into README, operations page and the pack they were measured on."""
    named, times, loaded = (
        [(path, read_report(path)) for path in report],
        read_latency(latency),
        load_pack(pack),
    )
    check_reports(loaded, named)
    if times.codec_digest != loaded.codec_digest:
        raise _other_weights(latency, "codec", times.codec_digest, loaded.codec_digest)
    reports = [shown for _, shown in named]
    rows = measured_rows(reports)
    readme = (root / "README.md").read_text(encoding="utf-8")
    for path, shown in named:
        for task in shown.tasks:
            body = markdown_table(shown, task, f"docs/results/{path.name}")
            readme = with_block(readme, block_name(task.task), body)
    operations = root / "docs/operations.md"
    times_page = with_block(
        operations.read_text(encoding="utf-8"), LATENCY, latency_table(times, f"results/{latency.name}")
    )
    with_measured(pack, rows, with_rows(loaded.file_bytes(MODEL_CARD_FILE).decode(), reports))
    (root / "README.md").write_text(readme, encoding="utf-8")
    operations.write_text(times_page, encoding="utf-8")
    typer.echo(f"{len(rows)} rows written to README.md, docs/operations.md and {pack}")

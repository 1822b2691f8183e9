"""Where measured numbers are shown: README table and pack card come from one report, never by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitcodec.errors import DatasetError
from splitcodec.evaluation.pages import Shown, latency_table, read_latency, with_block
from splitcodec.packs import load_pack
from splitcodec.packs.schema import MODEL_CARD_FILE, MeasuredRow
from splitcodec.packs.write import with_measured

TABLE, LATENCY = "table", "latency"  # names of the blocks in README.md and docs/operations.md


class ShownRow(Shown):
    """One row of the report; see evaluation.rows.Row."""

    codec: str
    rate: float | None
    bytes_per_frame: float | None
    bpp: float | None
    map: float
    map50: float
    drop: float
    drop_low: float
    drop_high: float


class ShownEqual(Shown):
    """Bytes an anchor needs for the accuracy of our row at `rate`."""

    rate: float
    anchor: str
    anchor_bytes: float | None


class ShownPack(Shown):
    """Digests of the pack that was measured, SHA-256 in hex."""

    name: str
    codec_digest: str
    prompt_digest: str


class ShownData(Shown):
    """The data set's file name."""

    file: str


class ShownReport(Shown):
    """The parts of a report that are shown."""

    command: str
    task: str
    pack: ShownPack
    data: ShownData
    frames: int
    rows: tuple[ShownRow, ...]
    equal_accuracy: tuple[ShownEqual, ...]

    @property
    def ours(self) -> list[ShownRow]:
        """Rows of the codec under test, in rate order."""
        return [row for row in self.rows if row.codec == "splitcodec"]


def read_report(path: Path) -> ShownReport:
    """A report written by `splitcodec eval`; DatasetError if it is not one."""
    try:
        return ShownReport.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path.name} is no report of `splitcodec eval`: {error}") from error


def markdown_table(report: ShownReport, report_file: str) -> str:
    """Our rate points beside the bytes each picture codec needs for the same mAP, with its source."""
    anchors = list(dict.fromkeys(item.anchor for item in report.equal_accuracy))
    needed = {(item.rate, item.anchor): item.anchor_bytes for item in report.equal_accuracy}
    teacher = report.rows[0]
    lines = [
        f"Detection on the {report.frames} photos of `{report.data.file}`: real bytes, COCO mAP, paired drop "
        f"in points from the uncompressed teacher (mAP {teacher.map:.3f}) with its 95 % bootstrap interval,",
        "and the bytes each picture codec needs in front of the whole teacher for the same mAP.",
        "",
        "| rate | bytes/frame | mAP | drop |" + "".join(f" {anchor} bytes |" for anchor in anchors),
        "|---" * (4 + len(anchors)) + "|",
    ]
    for row in report.ours:
        cells = [f"{row.rate:g}", f"{row.bytes_per_frame:.0f}", f"{row.map:.3f}", _drop(row)]
        cells += [_bytes(needed.get((row.rate or 0.0, anchor))) for anchor in anchors]
        lines.append("| " + " | ".join(cells) + " |")
    digests = f"codec `{report.pack.codec_digest[:16]}`, prompt `{report.pack.prompt_digest[:16]}`"
    lines += ["", f"Source: [{report_file}]({report_file}), `{report.command}`, {digests}."]
    return "\n".join(lines)


def _drop(row: ShownRow) -> str:
    return f"{100 * row.drop:.1f} [{100 * row.drop_low:.1f}, {100 * row.drop_high:.1f}]"


def _bytes(value: float | None) -> str:
    """A dash where the anchor's measured range does not reach that mAP from both sides."""
    return "-" if value is None else f"{value:.0f}"


def with_rows(card: str, rows: tuple[MeasuredRow, ...], command: str, pack_digest: str) -> str:
    """The card with a table of measured operating points, replacing an earlier one."""
    head = card.split("\n## Measured\n")[0].rstrip("\n")
    lines = ["", "", "## Measured", f"`{command}`, pack {pack_digest}", ""]
    lines += ["| task | data | rate | bytes/frame | bpp | mAP | drop |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        score, drop = row.metrics.get("map", 0.0), row.metrics.get("drop", 0.0)
        lines.append(
            f"| {row.task} | {row.data} | {row.rate:g} | {row.bytes_per_frame:.0f} | {row.bpp:.3f} "
            f"| {score:.3f} | {drop:+.3f} |"
        )
    return head + "\n".join([*lines, ""])


def measured_rows(report: ShownReport) -> tuple[MeasuredRow, ...]:
    """Our rows as a pack's manifest holds them."""
    return tuple(
        MeasuredRow(
            task=report.task,
            data=report.data.file,
            frames=report.frames,
            rate=row.rate or 0.0,
            bytes_per_frame=row.bytes_per_frame or 0.0,
            bpp=row.bpp or 0.0,
            metrics={"map": row.map, "map50": row.map50, "drop": row.drop},
        )
        for row in report.ours
    )


def publish_command(
    report: Annotated[Path, typer.Option(help="Report of `splitcodec eval`.")],
    latency: Annotated[Path, typer.Option(help="Report of `splitcodec bench latency`.")],
    root: Annotated[Path, typer.Option(help="Source folder, with README.md and docs/.")],
    pack: Annotated[Path, typer.Option(help="Pack folder whose measured rows and card are replaced.")],
) -> None:
    """Write the numbers of two reports into README, operations page and the pack they were measured on."""
    shown, times, loaded = read_report(report), read_latency(latency), load_pack(pack)
    for path, digest in ((report, shown.pack.codec_digest), (latency, times.codec_digest)):
        if digest != loaded.codec_digest:
            raise DatasetError(
                f"{path.name} measured codec {digest[:16]}, {pack} holds {loaded.codec_digest[:16]}; "
                "measure that pack first"
            )
    if shown.pack.prompt_digest != (held := loaded.prompt(shown.task).digest):
        raise DatasetError(
            f"{report.name} measured prompt {shown.pack.prompt_digest[:16]}, {pack} holds {held[:16]}; "
            "measure that pack first"
        )
    rows = measured_rows(shown)
    card = loaded.file_bytes(MODEL_CARD_FILE).decode()
    with_measured(pack, rows, with_rows(card, rows, shown.command, shown.pack.codec_digest[:16]))
    _replace(root / "README.md", TABLE, markdown_table(shown, f"docs/results/{report.name}"))
    _replace(root / "docs/operations.md", LATENCY, latency_table(times, f"results/{latency.name}"))
    typer.echo(f"{len(rows)} rows written to README.md, docs/operations.md and {pack}")


def _replace(page: Path, name: str, body: str) -> None:
    page.write_text(with_block(page.read_text(encoding="utf-8"), name, body), encoding="utf-8")

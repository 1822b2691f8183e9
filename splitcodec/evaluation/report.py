"""The report of one evaluation run, as JSON, CSV and a plot."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splitcodec.evaluation.bd_rate import BdRate
from splitcodec.evaluation.rows import EqualAccuracy, Row
from splitcodec.provenance import Provenance

REPORT_VERSION = 1


@dataclass(frozen=True)
class PackUnderTest:
    """Which weights were measured: digests are SHA-256 in hex; engine: as asked for."""

    name: str
    codec_digest: str
    prompt_digest: str
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
    detections: str
    bytes: str
    bpp: str
    drop: str
    anchors: dict[str, str]


@dataclass(frozen=True)
class Report:
    """Everything one run of `splitcodec eval` found."""

    report_version: int
    command: str
    task: str
    pack: PackUnderTest
    data: FileUnderTest
    frames: int
    boxes: int
    teacher: FileUnderTest
    convention: Convention
    provenance: Provenance
    seconds: float
    rows: Sequence[Row]
    bd_rate: Sequence[BdRate]
    equal_accuracy: Sequence[EqualAccuracy]


def write_json(report: Report, path: Path) -> None:
    """The whole report; NaN never occurs, missing figures are null."""
    text = json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One line per row under a header of its field names; missing figures are empty."""
    names = [field.name for field in dataclasses.fields(Row)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text for a terminal; drops in mAP points (hundredths)."""
    head = f"{'codec':<11}{'rate':>6}{'bytes':>9}{'p95':>9}{'bpp':>8}{'mAP':>8}{'mAP50':>8}"
    lines = [f"{head}  drop in points (95 %)"]
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:g}"
        size = "" if row.bytes_per_frame is None else f"{row.bytes_per_frame:.0f}"
        p95 = "" if row.bytes_p95 is None else f"{row.bytes_p95:.0f}"
        bpp = "" if row.bpp is None else f"{row.bpp:.4f}"
        interval = f"{100 * row.drop:+6.2f} [{100 * row.drop_low:+.2f}, {100 * row.drop_high:+.2f}]"
        lines.append(
            f"{row.codec:<11}{rate:>6}{size:>9}{p95:>9}{bpp:>8}{row.map:>8.4f}{row.map50:>8.4f}  {interval}"
        )
    return "\n".join(lines)


def describe(delta: BdRate) -> str:
    """One line on a BD-rate, with what limits it."""
    value = "not comparable" if delta.percent is None else f"{delta.percent:+.1f} % bytes"
    note = f"; {delta.note}" if delta.note else ""
    return (
        f"BD-rate against {delta.anchor}: {value} ({delta.interpolator}, overlap {delta.overlap:.0%}){note}"
    )

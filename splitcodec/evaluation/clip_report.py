"""What is reported of a clip: rows, as JSON and as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from splitcodec.evaluation.clip_video import VIDEO_CODECS
from splitcodec.evaluation.report import FileUnderTest, PackUnderTest
from splitcodec.provenance import RunOrigin

System = Literal["single", "gated", "held", "x264", "x265"]


@dataclass(frozen=True)
class ClipRow:
    """One way to send the clip.

    setting: our rate, or the CRF; worth: of a bit, None where nothing is held; gated: single frames but for
    those that changed by less than `min_change`, whose answer stays the last one's; bytes_per_frame,
    bytes_median: real bytes (of video no median: frames share one bitstream); agreement, agreement50: AP
    0.50:0.95 and at 0.50; low, high: 95 % bootstrap interval of `agreement` over seconds of the clip, drawn
    with replacement; held: mean share of the cells, or share of the frames that were left out; encode_ms:
    median time of the encoder for a frame, None where it is not ours.
    """

    system: System
    setting: float
    worth: float | None
    bytes_per_frame: float
    bytes_median: float | None
    agreement: float
    agreement50: float
    low: float
    high: float
    held: float | None
    encode_ms: float | None = None
    min_change: float | None = None


@dataclass(frozen=True)
class ClipReport:
    """One run over one clip; boxes: what the teacher finds in it; key_interval_s: between key frames."""

    command: str
    pack: PackUnderTest
    provenance: RunOrigin
    clip: FileUnderTest
    teacher: FileUnderTest
    task: str
    fps: float
    frames: int
    boxes: int
    key_interval_s: float
    video: str
    seconds: float
    rows: tuple[ClipRow, ...]


def to_json(report: ClipReport) -> str:
    """As it is written to a file."""
    return json.dumps(asdict(report), indent=1) + "\n"


def table(report: ClipReport, rate: float | None = None) -> list[str]:
    """The rows as a Markdown table, a line each; rate: of ours only those."""
    lines = [
        "| way | setting | bytes a frame | median | agreement | 95 % | at IoU 0.5 | held | encoder, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        if rate is not None and row.system not in VIDEO_CODECS and row.setting != rate:
            continue
        setting = f"CRF {row.setting:g}" if row.system in VIDEO_CODECS else f"rate {row.setting:g}"
        if row.min_change is not None:
            setting += f", change below {row.min_change:g}"
        if row.worth is not None:
            setting += f", a bit is worth {row.worth:g}"
        median = "" if row.bytes_median is None else f"{row.bytes_median:.0f}"
        held = "" if row.held is None else f"{row.held:.0%}"
        spent = "" if row.encode_ms is None else f"{row.encode_ms:.1f}"
        interval = f"{row.low:.2f} to {row.high:.2f}"
        size, accuracy = f"{row.bytes_per_frame:.0f} | {median}", f"{row.agreement:.3f} | {interval}"
        lines.append(
            f"| {row.system} | {setting} | {size} | {accuracy} | {row.agreement50:.3f} | {held} | {spent} |"
        )
    return lines


def read_clip_report(path: Path) -> ClipReport:
    """What `to_json` wrote. pydantic.ValidationError for anything else."""
    return TypeAdapter(ClipReport).validate_json(path.read_bytes())

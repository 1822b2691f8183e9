"""What the demo shows: a table with a row per photo and task, and each photo's answers side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from splitcodec.frame import read_picture, resize
from splitcodec.placement import fit_size
from splitcodec.tasks import Named

JPEG_QUALITIES: Final = (50, 75)
SHOWN: Final = 4  # labels per row of the table
_HEADINGS: Final = ("photo", "task", "found", "sent B", "JPEG50 B", "JPEG75 B", "edge ms", "cloud ms")
_TEXT_COLUMNS: Final = 3
_CAPTION: Final = 24  # pixels of a panel's caption
_INK, _PAPER = (240, 240, 240), (20, 20, 20)
_QUALITY: Final = 88


@dataclass(frozen=True)
class Outcome:
    """One photo's answer for one task.

    found: the answer's headline. jpeg_bytes: as JPEG
    at network size; edge_ms, cloud_ms: computing; overlay: JPEG of the photo with the answer drawn on it.
    """

    name: str
    task: str
    found: tuple[Named, ...]
    sent_bytes: int
    jpeg_bytes: tuple[int, int]
    edge_ms: float
    cloud_ms: float
    overlay: bytes


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The outcomes as aligned lines of text, headings first."""
    rows = [_HEADINGS, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        cells = list(zip(row, widths, strict=True))
        texts = [cell.ljust(width) for cell, width in cells[:_TEXT_COLUMNS]]
        numbers = [cell.rjust(width) for cell, width in cells[_TEXT_COLUMNS:]]
        lines.append("  ".join([*texts, *numbers]))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last line of a demo that worked."""
    sent = sum(outcome.sent_bytes for outcome in outcomes)
    jpeg75 = sum(outcome.jpeg_bytes[1] for outcome in outcomes)
    found = sum(len(outcome.found) for outcome in outcomes if outcome.task == "detect")
    return f"demo ok: frames={len(outcomes)} sent_bytes={sent} jpeg75_bytes={jpeg75} detections={found}"


def side_by_side(outcomes: Sequence[Outcome]) -> bytes:
    """The overlays of one photo beside each other, each under its task, bytes and best label: JPEG bytes."""
    panels = [simplejpeg.decode_jpeg(outcome.overlay, colorspace="RGB") for outcome in outcomes]
    height = min(panel.shape[0] for panel in panels)
    shown = [resize(panel, height, round(panel.shape[1] * height / panel.shape[0])) for panel in panels]
    whole = Image.new("RGB", (sum(panel.shape[1] for panel in shown), height + _CAPTION), _PAPER)
    pen, font, left = ImageDraw.Draw(whole), ImageFont.load_default(size=14), 0
    for outcome, panel in zip(outcomes, shown, strict=True):
        best = f", {outcome.found[0].label} {outcome.found[0].value:.2f}" if outcome.found else ""
        pen.text((left + 6, 3), f"{outcome.task}: {outcome.sent_bytes} bytes{best}", fill=_INK, font=font)
        whole.paste(Image.fromarray(panel), (left, _CAPTION))
        left += panel.shape[1]
    return bytes(simplejpeg.encode_jpeg(np.asarray(whole), quality=_QUALITY))


def jpeg_sizes(data: bytes, height: int, width: int) -> tuple[int, int]:
    """Bytes of a picture file's JPEGs at the qualities of JPEG_QUALITIES, scaled to fit height x width."""
    rgb = read_picture(data)
    small = Image.fromarray(resize(rgb, *fit_size(rgb.shape[0], rgb.shape[1], height, width)))
    sizes = []
    for quality in JPEG_QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        sizes.append(buffer.tell())
    return sizes[0], sizes[1]


def _row(outcome: Outcome) -> tuple[str, ...]:
    found = ", ".join(f"{one.label} {one.value:.2f}" for one in outcome.found[:SHOWN]) or "nothing"
    if len(outcome.found) > SHOWN:
        found += f", {len(outcome.found) - SHOWN} more"
    sizes = (outcome.sent_bytes, *outcome.jpeg_bytes)
    times = (outcome.edge_ms, outcome.cloud_ms)
    cells = (*(f"{size}" for size in sizes), *(f"{time_ms:.1f}" for time_ms in times))
    return (outcome.name, outcome.task, found, *cells)

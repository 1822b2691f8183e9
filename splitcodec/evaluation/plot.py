"""The rate-accuracy picture: bytes per frame on a logarithmic axis, accuracy upwards, one panel per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitcodec.evaluation.codec_system import CODEC_NAME, PIXELS_NAME
from splitcodec.evaluation.report import TaskReport, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from splitcodec.evaluation.clip_report import ClipReport, ClipRow

# Okabe-Ito colours: distinct for colour-blind readers; ours is the strong one.
STYLES = {
    CODEC_NAME: ("#d55e00", "o", 2.4),
    PIXELS_NAME: ("#e69f00", "P", 1.4),
    "jpeg": ("#0072b2", "s", 1.4),
    "webp": ("#009e73", "^", 1.4),
    "avif": ("#cc79a7", "D", 1.4),
    "hevc-medium": ("#56b4e9", "v", 1.4),
    "hevc-slow": ("#000000", "<", 1.4),
    "vvc": ("#f0e442", ">", 1.4),
}
CLIP_STYLES = {
    "single": ("#e69f00", "P", 1.4),
    "gated, 2": ("#aaaaaa", ".", 1.0),
    "gated, 4": ("#777777", ".", 1.0),
    "gated, 8": ("#444444", ".", 1.0),
    "held, 0.003": ("#f4b183", "o", 1.4),
    "held, 0.01": ("#d55e00", "o", 2.4),
    "held, 0.03": ("#8c3b00", "o", 1.4),
    "x264": ("#0072b2", "s", 1.4),
    "x265": ("#56b4e9", "v", 1.4),
}
OTHER_STYLE = ("#555555", "x", 1.4)
PANEL = (8.0, 5.2)  # inches


def draw_curves(tasks: Sequence[TaskReport], path: Path) -> None:
    """Write a PNG with one panel per task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL[0] * len(tasks), PANEL[1]), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for number, task in enumerate(tasks, start=1):
        _draw_task(figure.add_subplot(1, len(tasks), number), task)
    figure.savefig(path)


def draw_clip(report: ClipReport, path: Path) -> None:
    """Write a PNG of a clip: a curve for single frames, for each worth of a bit, and for each video codec."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=PANEL, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    names = {row: _way(row) for row in report.rows}
    for name in dict.fromkeys(names.values()):
        rows = sorted((row for row in report.rows if names[row] == name), key=lambda row: row.bytes_per_frame)
        colour, marker, width = CLIP_STYLES.get(name, (STYLES[CODEC_NAME][0], "o", 1.8))
        sizes = [row.bytes_per_frame / 1000 for row in rows]
        figures = [row.agreement for row in rows]
        axes.plot(sizes, figures, color=colour, marker=marker, linewidth=width, markersize=5, label=name)
    _set_sizes(axes)
    axes.set_ylabel("agreement with the teacher, AP 0.50:0.95")
    axes.set_title(f"{report.clip.file}, {report.frames} frames at {report.fps:g} a second")
    figure.savefig(path)


def _way(row: ClipRow) -> str:
    if row.min_change is not None:
        return f"gated, {row.min_change:g}"
    return row.system if row.worth is None else f"held, {row.worth:g}"


def _draw_task(axes: Axes, task: TaskReport) -> None:
    """One curve per codec, and the teacher as a dashed line."""
    for codec in dict.fromkeys(row.codec for row in task.rows):
        points = sorted(
            (row.bytes_per_frame / 1000, row.accuracy)
            for row in task.rows
            if row.codec == codec and row.bytes_per_frame is not None
        )
        if points:
            colour, marker, width = STYLES.get(codec, OTHER_STYLE)
            sizes, figures = zip(*points, strict=True)
            axes.plot(sizes, figures, color=colour, marker=marker, linewidth=width, markersize=5, label=codec)
    for row in task.rows:
        if row.bytes_per_frame is None:
            axes.axhline(row.accuracy, color="#222222", linestyle="--", linewidth=1)
            axes.annotate(
                f"{row.codec}, uncompressed: {row.accuracy:.3f}",
                (0.01, row.accuracy),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=9,
            )
    _set_axes(axes, task)


def _set_axes(axes: Axes, task: TaskReport) -> None:
    _set_sizes(axes)
    axes.set_ylabel(task.metric_name)
    axes.set_title(title(task))


def _set_sizes(axes: Axes) -> None:
    """Bytes on a logarithmic axis, a grid and a legend."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("kB per frame (real bytes, 1 kB = 1000 bytes)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)

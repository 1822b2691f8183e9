"""The rate-accuracy picture: bytes per frame on a logarithmic axis, mAP upwards."""

from collections.abc import Sequence
from pathlib import Path

from splitcodec.evaluation.codec_system import CODEC_NAME
from splitcodec.evaluation.rows import Row

# Okabe-Ito colours: distinct for colour-blind readers; ours is the strong one.
STYLES = {
    CODEC_NAME: ("#d55e00", "o", 2.4),
    "jpeg": ("#0072b2", "s", 1.4),
    "webp": ("#009e73", "^", 1.4),
    "avif": ("#cc79a7", "D", 1.4),
    "hevc": ("#56b4e9", "v", 1.4),
}
OTHER_STYLE = ("#555555", "x", 1.4)


def draw_curves(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG with one curve per codec, and the teacher as a dashed line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(8, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for codec in dict.fromkeys(row.codec for row in rows):
        points = sorted(
            (row.bytes_per_frame / 1000, row.map)
            for row in rows
            if row.codec == codec and row.bytes_per_frame is not None
        )
        if points:
            colour, marker, width = STYLES.get(codec, OTHER_STYLE)
            sizes, figures = zip(*points, strict=True)
            axes.plot(sizes, figures, color=colour, marker=marker, linewidth=width, markersize=5, label=codec)
    for row in rows:
        if row.bytes_per_frame is None:
            axes.axhline(row.map, color="#222222", linestyle="--", linewidth=1)
            axes.annotate(
                f"{row.codec}, uncompressed: {row.map:.3f}",
                (0.01, row.map),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=9,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("kB per frame (real bytes, 1 kB = 1000 bytes)")
    axes.set_ylabel("mAP 0.50:0.95")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path)

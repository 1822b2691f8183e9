"""The picture of a run of rate control: link, target and what was sent; rate; how late the answers were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from splitcodec.bench.rate_figures import kbps
from splitcodec.bench.rate_run import TraceFrame
from splitcodec.bench.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE: Final = (8.0, 7.0)  # inches
STEP_S: Final = 0.5
SENT: Final = "#d55e00"  # Okabe-Ito colours: distinct for colour-blind readers
LINK: Final = "#0072b2"
TARGET: Final = "#009e73"


def draw_rates(frames: Sequence[TraceFrame], link: Trace, target_kbps: float, path: Path) -> None:
    """Write a PNG with three panels over the same seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    bits, rates, delays = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    _draw_bits(bits, frames, link, target_kbps)
    sent = [frame for frame in frames if frame.num_bytes]
    at, dots = [frame.at for frame in sent], {"color": SENT, "marker": ".", "linestyle": "", "markersize": 3}
    rates.plot(at, [frame.rate for frame in sent], **dots)
    rates.set_ylabel("rate point")
    delays.plot(
        [frame.at for frame in sent], [frame.delay_s for frame in sent], ".", color=SENT, markersize=3
    )
    delays.set_ylabel("answer after, s")
    delays.set_xlabel("seconds")
    for axes in (bits, rates, delays):
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(path)


def _draw_bits(axes: Axes, frames: Sequence[TraceFrame], link: Trace, target_kbps: float) -> None:
    steps = [step * STEP_S for step in range(int(frames[-1].at / STEP_S) + 1)]
    axes.step(steps, [link.at(at) / 1000 for at in steps], where="post", color=LINK, label="link carries")
    axes.axhline(target_kbps, color=TARGET, linestyle="--", label="target")
    sent = [kbps(frames, max(at - 1, 0), max(at, 1)) for at in steps]
    axes.plot(steps, sent, color=SENT, linewidth=2, label="sent, over one second")
    axes.set_yscale("log")
    axes.set_ylabel("kbit/s")
    axes.legend(loc="upper right")

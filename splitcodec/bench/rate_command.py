"""`splitcodec bench rate-control`: the law against real frames and a link that follows a trace."""

from __future__ import annotations

import dataclasses
import json as jsonlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from splitcodec.bench.photos import read_photos
from splitcodec.bench.rate_figures import HOLD_S, RateFigures, figures, kbps
from splitcodec.bench.rate_run import Coder, TraceFrame, run_trace
from splitcodec.bench.sequence import panned
from splitcodec.bench.trace import Trace, read_trace
from splitcodec.codec import Again, FeatureEncoder
from splitcodec.errors import UnknownTask
from splitcodec.extras import needing
from splitcodec.frame import read_picture, to_canvas
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.rates import rate_points
from splitcodec.provenance import RunOrigin, run_origin
from splitcodec.rate_control import BytesModel, Goal, RateController
from splitcodec.sample_photos import packaged_photos

REPORT_VERSION = 1
MAX_PHOTOS = 50


@dataclass(frozen=True)
class RateReport:
    """One run: what was asked, what came of it, and every frame."""

    report_version: int
    pack: str
    codec_digest: str
    trace: str
    target_kbps: float
    fps: float
    policy: str
    provenance: RunOrigin
    figures: RateFigures
    frames: Sequence[TraceFrame]


def rate_control_command(
    trace: Annotated[
        str, typer.Option(help="Bandwidth of the link: a CSV of seconds,kbps, or fall, stall, steady.")
    ] = "fall",
    data: Annotated[
        Path | None, typer.Option(help="Photos to pan over: a tar or a folder; by default scikit-image's.")
    ] = None,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str, typer.Option(help="Task of the pack.")] = "detect",
    target_kbps: Annotated[
        float | None, typer.Option(min=0.1, help="Target; by default what the middle rate takes.")
    ] = None,
    result_deadline_s: Annotated[float, typer.Option(min=0.01, help="From capture to result.")] = 1.0,
    fps: Annotated[float, typer.Option(min=0.1, max=120, help="Frames per second.")] = 8.0,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Length of the sequence.")] = 60.0,
    over_target: Annotated[
        Literal["spool", "thin"], typer.Option(help="When even rate 0 is too much.")
    ] = "thin",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each graph.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: a PNG; needs the extra eval.")] = None,
) -> None:
    """Code a panning sequence under rate control over a link that follows a trace; time is computed."""
    link, loaded = read_trace(trace), load_pack(pack)
    points = rate_points(loaded.manifest, task)
    middle = BytesModel(points).num_bytes(points.max_rate / 2)
    target = 8 * middle * fps / 1000 if target_kbps is None else target_kbps
    controller = RateController({task: points}, points.max_rate, Goal(target, result_deadline_s))
    pictures = panned(_photos(data), seconds, fps)
    with typer.progressbar(
        length=round(seconds * fps), label="frames", file=typer.get_text_stream("stderr")
    ) as bar:
        frames = run_trace(
            pictures,
            fps,
            coder(loaded, task, threads),
            controller,
            task,
            link,
            over_target == "thin",
            lambda: bar.update(1),
        )
    report = RateReport(
        REPORT_VERSION,
        loaded.name,
        loaded.codec_digest,
        link.name,
        target,
        fps,
        over_target,
        run_origin(),
        figures(frames, link, 1000 * target, fps, over_target == "thin"),
        frames,
    )
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        from splitcodec.bench.rate_plot import draw_rates

        plot.parent.mkdir(parents=True, exist_ok=True)
        with needing("eval"):
            draw_rates(report.frames, link, report.target_kbps, plot)
    typer.echo("\n".join(lines(report, link)))


def coder(pack: Pack, task: str, threads: int) -> Coder:
    """Codes pictures as the edge does; UnknownTask if the pack does not have the task."""
    if task not in pack.manifest.tasks:
        raise UnknownTask(f"task {task!r} is not in pack {pack.name}; it has {sorted(pack.manifest.tasks)}")
    encoder = FeatureEncoder(pack, threads=threads)
    convention, prompt = pack.manifest.tasks[task].input, pack.prompt(task)

    def code(picture: NDArray[np.uint8], rate: float, again: Again) -> tuple[float, int]:
        canvas = to_canvas(picture, convention)
        size = (canvas.source_height, canvas.source_width)
        coded = encoder.compress(canvas.pixels, prompt, rate, size, again=again)
        return coded.rate, coded.num_bytes

    return code


def lines(report: RateReport, trace: Trace) -> list[str]:
    """The report as text: every second, then the figures."""
    text = [f"{'second':>6}{'link kbps':>11}{'sent kbps':>11}{'rate':>12}{'left out':>10}{'delay s':>9}"]
    found, seconds = report.figures, len(report.frames) / report.fps
    for second in range(int(seconds)):
        part = [frame for frame in report.frames if second <= frame.at < second + 1]
        if not part:
            continue
        rates, delay = [frame.rate for frame in part], max(frame.delay_s for frame in part)
        text.append(
            f"{second:>6}{trace.at(second) / 1000:>11.0f}{kbps(report.frames, second, second + 1):>11.1f}"
            f"{min(rates):>7.2f}-{max(rates):.2f}{sum(not f.num_bytes for f in part):>10}{delay:>9.2f}"
        )
    text.append(
        f"target {report.target_kbps:.1f} kbit/s, sent {found.mean_kbps:.1f}; {found.frames} frames, "
        f"{found.left_out} left out; delay median {found.delay_median_s:.2f} s, p95 {found.delay_p95_s:.2f} s"
    )
    text.append(f"target missed by at most {_shown(found.hold_error, '.1%')} over any {HOLD_S:.0f} s")
    text.append(f"reaction to a fall of the link: {_shown(found.reaction_s, '.1f')} s")
    text.append(f"swing around a steady link: {_shown(found.swing, '.2f')} rate points")
    return text


def _photos(data: Path | None) -> list[NDArray[np.uint8]]:
    if data is None:
        return [read_picture(photo.read_bytes()) for photo in packaged_photos()]
    return [read_picture(photo.data, photo.content_type) for photo in read_photos(data, MAX_PHOTOS)]


def _shown(value: float | None, form: str) -> str:
    return "(no occasion in this trace)" if value is None else format(value, form)

"""`splitcodec eval`: one run, one table per task, one report; and reports beside each other."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from splitcodec.errors import SettingsError

if TYPE_CHECKING:
    from splitcodec.evaluation.report import Report
    from splitcodec.evaluation.run import EvaluationProgress

NEEDED = ("pycocotools", "av", "matplotlib", "bjontegaard", "scipy", "tqdm")


Reports = Annotated[list[Path] | None, typer.Argument(help="With --compare: reports of earlier runs.")]
Data = Annotated[
    list[str] | None,
    typer.Option(help="A tar or a folder: COCO with boxes and masks, or photos; PATH or TASK=PATH."),
]
Json = Annotated[Path | None, typer.Option(help="Report to write; a .csv and a .png go beside it.")]
PackPlace = Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")]
Tasks = Annotated[list[str] | None, typer.Option(help="Task of the pack, or `all`; may be repeated.")]
Teachers = Annotated[
    list[str] | None,
    typer.Option(help="The untouched network (ONNX): PATH or TASK=PATH.", envvar="SPLITCODEC_TEACHER"),
]
Classes = Annotated[Path | None, typer.Option(help="CSV with file,class for photos whose names do not tell.")]
Rates = Annotated[str, typer.Option(help="Like 0,0.5,3; all trained ones and midpoints by default.")]
Student = Annotated[
    Literal["feature", "pixels", "both"],
    typer.Option(help="The task's tail on the feature, the teacher on a decoded picture, or both."),
]
Anchors = Annotated[
    str, typer.Option(help="Like jpeg,webp,avif,hevc-medium,hevc-slow, which is the default; also vvc.")
]
NoAnchors = Annotated[bool, typer.Option("--no-anchors", help="Measure no picture codec.")]
ShuffleMaps = Annotated[
    bool, typer.Option("--shuffle-maps", help="Also each photo with the importance maps of another one.")
]
Engine = Annotated[str, typer.Option(help="Inference engine of the codec and the tail.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads per inference session.")]
Resamples = Annotated[int, typer.Option(min=2, help="Bootstrap resamples.")]
Clip = Annotated[
    Path | None,
    typer.Option(help="A video of a still camera, in place of --data: frames that hold cells, x264, x265."),
]
Fps = Annotated[float, typer.Option(min=0.01, help="With --clip: pictures taken a second.")]
Frames = Annotated[int | None, typer.Option(min=2, help="With --clip: pictures at most.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Print bytes at equal accuracy of the reports named.")
]


def eval_command(
    reports: Reports = None,
    data: Data = None,
    json: Json = None,
    pack: PackPlace = "default",
    task: Tasks = None,
    teacher: Teachers = None,
    classes: Classes = None,
    rates: Rates = "",
    student: Student = "feature",
    anchors: Anchors = "",
    no_anchors: NoAnchors = False,
    shuffle_maps: ShuffleMaps = False,
    engine: Engine = "auto",
    threads: Threads = 1,
    resamples: Resamples = 1000,
    clip: Clip = None,
    fps: Fps = 5.0,
    frames: Frames = None,
    compare: Compare = False,
) -> None:
    """Accuracy against real bytes: the codec, the uncompressed teacher, and the picture codecs instead."""
    require_packages()
    if compare:
        return _print_comparison(reports or [])
    if clip is not None and json is not None and not data:
        return _measure_clip(clip, fps, frames, task, teacher, pack, rates, engine, threads, json)
    if reports or not data or json is None:
        raise typer.BadParameter(
            "give --data (or --clip) and --json to measure, or --compare and two or more reports"
        )
    from splitcodec.evaluation.run import EvalOptions, evaluate, parse_rates, per_task

    options = EvalOptions(
        pack=pack,
        tasks=tuple(task or ("detect",)),
        data=per_task(data, "--data"),
        teachers=per_task(teacher or [], "--teacher"),
        classes=classes,
        json=json,
        rates=parse_rates(rates),
        anchors=_anchor_names(anchors, no_anchors),
        engine=engine,
        threads=threads,
        resamples=resamples,
        student=student,
        shuffle_maps=shuffle_maps,
    )
    typer.echo("\n".join(write_report(evaluate(options, _bar()), json)))


def _measure_clip(
    clip: Path,
    fps: float,
    frames: int | None,
    tasks: list[str] | None,
    teachers: list[str] | None,
    pack: str,
    rates: str,
    engine: str,
    threads: int,
    json: Path,
) -> None:
    from splitcodec.evaluation.clip import ClipOptions, evaluate_clip
    from splitcodec.evaluation.clip_report import table, to_json
    from splitcodec.evaluation.plot import draw_clip
    from splitcodec.evaluation.run import parse_rates

    if tasks is not None and len(tasks) > 1:
        raise typer.BadParameter("--clip measures one task", param_hint="--task")
    teacher = Path(teachers[0]) if teachers else None
    wanted = parse_rates(rates) or (0.0, 1.0, 2.0, 3.0)
    task = (tasks or ["detect"])[0]
    options = ClipOptions(clip, fps, task, teacher, pack, wanted, engine, threads, frames)
    report = evaluate_clip(options, _bar())
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(to_json(report), encoding="utf-8")
    draw_clip(report, json.with_suffix(".png"))
    told = f"{report.frames} frames, {report.boxes} boxes of the teacher"
    typer.echo("\n".join([told, *table(report), f"wrote {json}, {json.with_suffix('.png')}"]))


def _anchor_names(text: str, none_at_all: bool) -> tuple[str, ...] | None:
    """`jpeg,vvc` to names, None for an empty text: the standard ones."""
    if none_at_all and text:
        raise typer.BadParameter("give --anchors or --no-anchors, not both")
    if none_at_all:
        return ()
    return tuple(name.strip() for name in text.split(",")) if text.strip() else None


def _print_comparison(reports: list[Path]) -> None:
    from splitcodec.evaluation.compare import compare_reports

    typer.echo("\n".join(compare_reports(reports)))


def _bar() -> "EvaluationProgress":
    """On stderr."""
    from tqdm import tqdm

    from splitcodec.evaluation.run import EvaluationProgress

    class Bar(EvaluationProgress):
        def begin(self, task: str, steps: int) -> None:
            self._bar = tqdm(total=steps, unit="frame", desc=task, smoothing=0.05)

        def advance(self) -> None:
            self._bar.update()
            if self._bar.n == self._bar.total:
                self._bar.close()

    return Bar()


def write_report(report: "Report", json: Path) -> list[str]:
    """Write JSON, CSV and PNG; return the lines for the terminal."""
    from splitcodec.evaluation.plot import draw_curves
    from splitcodec.evaluation.report import describe, table, title, write_csv, write_json

    json.parent.mkdir(parents=True, exist_ok=True)
    write_json(report, json)
    write_csv(report.tasks, json.with_suffix(".csv"))
    draw_curves(report.tasks, json.with_suffix(".png"))
    lines = []
    for task in report.tasks:
        lines += [title(task), table(task), *(describe(delta) for delta in task.bd_rate), ""]
    files = ", ".join(str(json.with_suffix(suffix)) for suffix in (json.suffix, ".csv", ".png"))
    return [*lines, f"wrote {files}"]


def require_packages() -> None:
    """SettingsError that names what is not installed and how to install it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise SettingsError(f"{names} not installed; in the source folder run: pip install '.[eval,cpu]'")

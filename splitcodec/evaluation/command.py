"""`splitcodec eval`: one run, one table, one report."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitcodec.errors import SettingsError

if TYPE_CHECKING:
    from splitcodec.evaluation.report import Report

NEEDED = ("pycocotools", "av", "matplotlib", "bjontegaard", "scipy", "tqdm")


def eval_command(
    data: Annotated[Path, typer.Option(help="COCO detection data: a tar or a folder.")],
    json: Annotated[Path, typer.Option(help="Report to write; a .csv and a .png go beside it.")],
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str, typer.Option(help="Task of the pack; its results must be detections.")] = "detect",
    teacher: Annotated[
        Path | None, typer.Option(help="The untouched detector (ONNX).", envvar="SPLITCODEC_TEACHER")
    ] = None,
    rates: Annotated[str, typer.Option(help="Like 0,0.5,3; all trained ones and midpoints by default.")] = "",
    anchors: Annotated[bool, typer.Option(help="Measure JPEG, WebP, AVIF and HEVC too.")] = True,
    engine: Annotated[str, typer.Option(help="Inference engine of the codec and the tail.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads per inference session.")] = 1,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap resamples.")] = 1000,
) -> None:
    """Accuracy against real bytes: the codec, the uncompressed teacher, and the picture codecs instead."""
    require_packages()
    from tqdm import tqdm

    from splitcodec.evaluation.run import EvalOptions, Progress, evaluate, parse_rates

    class Bar(Progress):
        """On stderr."""

        def begin(self, steps: int) -> None:
            self._bar = tqdm(total=steps, unit="frame", desc="eval", smoothing=0.05)

        def advance(self) -> None:
            self._bar.update()

        def close(self) -> None:
            self._bar.close()

    bar = Bar()
    options = EvalOptions(
        pack, task, data, teacher, json, parse_rates(rates), anchors, engine, threads, resamples
    )
    report = evaluate(options, bar)
    bar.close()
    typer.echo("\n".join(write_report(report, json)))


def write_report(report: "Report", json: Path) -> list[str]:
    """Write JSON, CSV and PNG; return the lines for the terminal."""
    from splitcodec.evaluation.plot import draw_curves
    from splitcodec.evaluation.report import describe, table, write_csv, write_json

    json.parent.mkdir(parents=True, exist_ok=True)
    write_json(report, json)
    write_csv(report.rows, json.with_suffix(".csv"))
    title = f"{report.task} on {report.data.file}: {report.frames} photos, {report.boxes} boxes"
    draw_curves(report.rows, title, json.with_suffix(".png"))
    files = ", ".join(str(json.with_suffix(suffix)) for suffix in (json.suffix, ".csv", ".png"))
    return [table(report.rows), *(describe(delta) for delta in report.bd_rate), f"wrote {files}"]


def require_packages() -> None:
    """SettingsError that names what is not installed and how to install it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise SettingsError(f"{names} not installed; in the source folder run: pip install '.[eval,cpu]'")

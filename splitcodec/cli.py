"""The `splitcodec` command. A room that needs an extra is imported inside its command, never at start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from splitcodec import __version__
from splitcodec.bench.command import app as bench_app
from splitcodec.demo import demo_command
from splitcodec.errors import RuntimeUnavailable, SplitcodecError
from splitcodec.evaluation.command import eval_command
from splitcodec.evaluation.publish import publish_command

FAILED = 1  # exit status: the command ran and says no
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compressed features between a camera box and a server: show, measure, train, export, check.",
)
train_app = typer.Typer(
    no_args_is_help=True, help="Train the codec (stages 1 and 1b) or a task's prompt (stage 2)."
)
pack_app = typer.Typer(no_args_is_help=True, help="Look into a pack or verify it.")
app.add_typer(train_app, name="train")
app.add_typer(pack_app, name="pack")
app.add_typer(bench_app, name="bench")
app.command("demo")(demo_command)
app.command("eval")(eval_command)
app.command("publish")(publish_command)

PackPlace = Annotated[
    str, typer.Argument(help="Pack folder or zip, or `default` for the one inside the library.")
]
Photos = Annotated[
    list[Path], typer.Option("--data", help="Training photos: a tar or a folder; may be repeated.")
]
TeacherFile = Annotated[
    Path, typer.Option("--teacher", envvar="SPLITCODEC_TEACHER", help="The teacher network (ONNX).")
]
RunFolder = Annotated[Path, typer.Option("--out", help="Folder of the run; a run found there is resumed.")]
Compile = Annotated[bool, typer.Option(help="Compile the step; off starts sooner and runs slower.")]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0, help="End after this long, with the learning rate schedule complete.")
]


def main() -> None:
    """Entry point of the console script; an error raised on purpose is one line on stderr and status 1."""
    try:
        app()
    except SplitcodecError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(FAILED)


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turns a missing third-party package into RuntimeUnavailable that names the extra which brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "splitcodec", "edge", "cloud"):
            raise
        raise RuntimeUnavailable(
            f"{missing} is not installed; in the source folder run: pip install '.[{extra}]'"
        ) from error


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Compressed features between a camera box and a server: show, measure, train, export, check."""
    if version:
        typer.echo(f"splitcodec {__version__}")
        raise typer.Exit


@train_app.command("codec")
def train_codec_command(
    data: Photos,
    teacher: TeacherFile,
    out: RunFolder,
    recipe: Annotated[str, typer.Option(help="Name of a recipe in training/recipes.py.")] = "nano",
    max_minutes: MaxMinutes = None,
    compile: Compile = True,
    start: Annotated[
        Path | None, typer.Option(help="final.safetensors of an earlier codec run to go on from.")
    ] = None,
) -> None:
    """Stages 1 and 1b: the universal codec, with the picture and the teacher's feature as targets."""
    from splitcodec.training.recipes import STAGE1

    if recipe not in STAGE1:
        raise typer.BadParameter(f"{recipe!r} is none of {sorted(STAGE1)}", param_hint="--recipe")
    with needing("train"):
        from splitcodec.training.codec_run import TrainingInputs, train_codec
    train_codec(STAGE1[recipe], TrainingInputs(data, teacher, out, max_minutes, start, compile))


@train_app.command("prompt")
def train_prompt_command(
    data: Photos,
    teacher: TeacherFile,
    codec: Annotated[Path, typer.Option(help="Stage 1's final.safetensors.")],
    out: RunFolder,
    task: Annotated[str, typer.Option(help="Task to train for; names the recipe.")] = "detect",
    max_minutes: MaxMinutes = None,
    compile: Compile = True,
) -> None:
    """Stage 2: the prompt and the tail of one task on the frozen codec, taught by the teacher; no labels."""
    from splitcodec.training.recipes import STAGE2

    if task not in STAGE2:
        raise typer.BadParameter(f"{task!r} is none of {sorted(STAGE2)}", param_hint="--task")
    with needing("train"):
        from splitcodec.training.codec_run import TrainingInputs
        from splitcodec.training.prompt_run import train_prompt
    train_prompt(STAGE2[task], TrainingInputs(data, teacher, out, max_minutes, codec, compile))


@app.command("export")
def export_command(
    codec: Annotated[Path, typer.Option(help="Stage 1's final.safetensors.")],
    teacher: TeacherFile,
    labels: Annotated[Path, typer.Option(help="Text file, line k names class k.")],
    out: Annotated[Path, typer.Option(help="Pack folder to write.")],
    prompt: Annotated[
        Path | None, typer.Option(help="Stage 2's final.safetensors; without it, stage 1 alone.")
    ] = None,
    data_terms: Annotated[
        Path | None, typer.Option(help="JSON list of what it was trained on: name, origin, licence, items.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the pack.")] = "nano-coco",
    notes: Annotated[str, typer.Option(help="A line for the model card.")] = "",
    sizes: Annotated[str, typer.Option(help="Sizes of the codec, as in models/sizes.py.")] = "nano",
) -> None:
    """Write a pack from finished runs; every graph must give the networks' numbers, or nothing is written."""
    with needing("train"):
        from pydantic import TypeAdapter

        from splitcodec.export.checkpoint_pack import PackSources, export_pack, run_provenance
        from splitcodec.packs import TrainingData
    terms = TypeAdapter(list[TrainingData]).validate_json(data_terms.read_bytes()) if data_terms else []
    sources = PackSources(codec, prompt, teacher, labels, sizes, name)
    manifest = export_pack(sources, out, run_provenance(sources, terms, notes))
    typer.echo(f"wrote {out}: pack {manifest.name}, codec digest {manifest.codec_digest[:16]}")


@pack_app.command("show")
def pack_show(pack: PackPlace = "default") -> None:
    """Print what a pack holds: graphs and their cost, tasks, measured rows, origin of the weights."""
    from splitcodec.packs import load_pack
    from splitcodec.packs.describe import describe

    typer.echo("\n".join(describe(load_pack(pack))))


@pack_app.command("verify")
def pack_verify(pack: PackPlace = "default") -> None:
    """Check every file of a pack, and that this machine computes its exact branch; fails with the reason."""
    from splitcodec.codec.exact import ScaleGraph
    from splitcodec.packs import load_pack

    loaded = load_pack(pack)
    scale = ScaleGraph(loaded, threads=1)
    for task in loaded.tasks:
        scale.verify(loaded.prompt(task))
    typer.echo(
        f"{loaded.name}: {len(loaded.manifest.files())} files verified, tasks {', '.join(loaded.tasks)} ok"
    )


@app.command("doctor")
def doctor_command(
    pack: Annotated[str, typer.Option(help="Pack whose graphs are opened.")] = "default",
    engine: Annotated[str, typer.Option(help="Engine to ask for: auto, ort-cpu, ort-cuda, ...")] = "auto",
) -> None:
    """Say which engine really runs each graph here, and why not a better one; fails if something is wrong."""
    from splitcodec.doctor import examine

    report = examine(pack, engine)
    typer.echo("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    main()

"""`splitcodec train start` and `train import`: where a run's first weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitcodec.extras import needing


def known_sizes(name: str) -> str:
    """The name as it is; typer.BadParameter, which lists them, if models/sizes.py has no such sizes."""
    from splitcodec.models.sizes import SIZES

    if name not in SIZES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(SIZES)}")
    return name


Sizes = Annotated[str, typer.Option(callback=known_sizes, help="Sizes of the codec, as in models/sizes.py.")]


def train_start_command(
    data: Annotated[
        list[Path], typer.Option("--data", help="Training photos: a tar or a folder; may be repeated.")
    ],
    teacher: Annotated[Path, typer.Option(envvar="SPLITCODEC_TEACHER", help="A YOLOX (ONNX).")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write final.safetensors into.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="A further teacher (ONNX) of stage 1; may be repeated.")
    ] = None,
    sizes: Sizes = "nano",
) -> None:
    """Stage 1's first weights: the detector's own layers, and the best linear code of what they give."""
    with needing("train"):
        from splitcodec.training.start_run import write_start
    kept = write_start(data, teacher, tuple(also or ()), out, sizes)
    typer.echo(f"wrote {out}: the latent keeps {kept:.1%} of the task-weighted variance of h")


def train_import_command(
    weights: Annotated[Path, typer.Argument(help="safetensors file of a base, or of one task.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write final.safetensors and run.json into.")],
    teacher: Annotated[
        Path | None,
        typer.Option(envvar="SPLITCODEC_TEACHER", help="A task's file: the teacher (ONNX) of its tail."),
    ] = None,
    codec: Annotated[
        Path | None, typer.Option(help="A task's file: final.safetensors of the imported base.")
    ] = None,
    conformance: Annotated[
        Path | None, typer.Option(help="safetensors file of numbers that every stage must give.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="What trained it; base2, or the task's own.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="How long it was trained, for the card.")] = 0.0,
    machine: Annotated[str, typer.Option(help="On what, for the card.")] = "not told",
    sizes: Sizes = "nano",
) -> None:
    """Weights trained elsewhere, as a finished run: every name and shape is checked."""
    with needing("train"):
        from splitcodec.training import import_weights
        from splitcodec.training.recipes import RECIPE_OF_TASK
    task = import_weights.task_of(weights)
    notes = import_weights.RunNotes(
        recipe or RECIPE_OF_TASK.get(task or "", "base2"), 60.0 * minutes, machine
    )
    if task is None:
        import_weights.import_base(weights, out, notes, sizes, conformance)
    elif teacher is None or codec is None:
        raise typer.BadParameter(f"{weights.name} holds weights of {task}; give --teacher and --codec")
    else:
        import_weights.import_task(weights, out, notes, teacher, codec, sizes, conformance)
    typer.echo(f"wrote {out}: {task or 'the base'} of {weights.name}")

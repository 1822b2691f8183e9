"""`splitcodec export` and `export-teacher`; torch is imported inside the commands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from splitcodec.extras import needing
from splitcodec.training.command import RandomWeights, Split, TeacherName, Weights
from splitcodec.training.prepare_command import Sizes


def export_command(
    codec: Annotated[Path, typer.Option(help="Stage 1's final.safetensors.")],
    out: Annotated[Path, typer.Option(help="Pack folder to write.")],
    tasks: Annotated[
        Path | None,
        typer.Option(help="JSON list of tasks: task, teacher, labels, run, ... (docs/training.md)."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(envvar="SPLITCODEC_TEACHER", help="One task: its teacher (ONNX).")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="One task: text file, line k names class k.")] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="One task: stage 2's final.safetensors; without it, stage 1 alone.")
    ] = None,
    task: Annotated[str, typer.Option(help="One task: its name.")] = "detect",
    data_terms: Annotated[
        Path | None, typer.Option(help="JSON list of what it was trained on: name, origin, licence, items.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the pack.")] = "nano-coco",
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Training photos to fit each task's symbol tables to: a tar or a folder; repeatable."
        ),
    ] = None,
    notes: Annotated[str, typer.Option(help="A line for the model card.")] = "",
    sizes: Sizes = "nano",
) -> None:
    """Write a pack from finished runs; every graph must give the networks' numbers, or nothing is written."""
    with needing("train"):
        from splitcodec.export.checkpoint_pack import PackSources, TaskSource, export_pack
        from splitcodec.export.lists import read_list
        from splitcodec.packs import TrainingData
    terms = read_list(data_terms, "--data-terms", TrainingData) if data_terms else []
    if tasks is not None:
        wanted = tuple(read_list(tasks, "--tasks", TaskSource))
    elif teacher is not None and labels is not None:
        wanted = (TaskSource(task=task, teacher=teacher, labels=labels, run=prompt),)
    else:
        raise typer.BadParameter("give --tasks, or --teacher and --labels for one task", param_hint="--tasks")
    manifest = export_pack(PackSources(codec, wanted, sizes, name, tuple(fit or ())), out, terms, notes)
    typer.echo(f"wrote {out}: pack {manifest.name}, codec digest {manifest.codec_digest[:16]}")


def export_teacher_command(
    teacher: TeacherName,
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    postprocess: Annotated[
        Literal["retinanet", "deeplab_centred", "classify"],
        typer.Option(help="What its outputs become, as in the pack."),
    ],
    split: Split = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
) -> None:
    """Write a torch teacher, whole and untouched, as the ONNX file that `splitcodec eval` compares with."""
    with needing("train"):
        from splitcodec.export.whole_teacher import export_teacher
        from splitcodec.training.paper_teachers import teacher_source
        from splitcodec.training.teacher import TorchTeacher
    source = teacher_source(teacher, split, None, weights, random_weights)
    if not isinstance(source, TorchTeacher):
        raise typer.BadParameter(f"{teacher} is a file already", param_hint="--teacher")
    export_teacher(source, postprocess, out)
    typer.echo(f"wrote {out}")

"""`splitcodec train crops`, `train codec` and `train prompt`; torch is imported inside the commands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from splitcodec.extras import needing
from splitcodec.prompts.schema import IDENTIFIER
from splitcodec.training.crops_command import train_crops_command
from splitcodec.training.prepare_command import train_import_command, train_start_command

train_app = typer.Typer(
    no_args_is_help=True, help="Train the codec (stages 1 and 1b) or a task's prompt (stage 2)."
)
train_app.command("crops")(train_crops_command)
Photos = Annotated[
    list[Path],
    typer.Option(
        "--data", help="Training photos: a tar or a folder, or a .npy of `train crops`; may be repeated."
    ),
]
TeacherName = Annotated[
    str,
    typer.Option(
        "--teacher",
        envvar="SPLITCODEC_TEACHER",
        help="An ONNX file; retinanet-r50 or deeplabv3-r50; or package.module:function, or file.py:function, "
        "that returns a torch module (with --split).",
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Submodule of a torch teacher whose output travels, at 1/8 or 1/4."),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="A torch teacher's weights: safetensors, or a state dict.")
]
RandomWeights = Annotated[
    bool,
    typer.Option("--random-weights", help="Named teachers: untrained, for a run that shows it works."),
]
Epochs = Annotated[
    float | None, typer.Option("--epochs", min=0, help="Passes over the photos, for the recipe's steps.")
]
RunFolder = Annotated[
    Path, typer.Option("--out", help="Folder of the run; a run of the same recipe found there is resumed.")
]
ResumeAnyway = Annotated[
    bool,
    typer.Option("--resume-anyway", help="Resume a checkpoint that does not say which recipe it is of."),
]
Compile = Annotated[bool, typer.Option(help="Compile the step; off starts sooner and runs slower.")]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0, help="End after this long, with the learning rate schedule complete.")
]


train_app.command("start")(train_start_command)
train_app.command("import")(train_import_command)


@train_app.command("codec")
def train_codec_command(
    data: Photos,
    teacher: TeacherName,
    out: RunFolder,
    recipe: Annotated[str, typer.Option(help="Name of a recipe in training/recipes.py.")] = "base2",
    split: Split = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    epochs: Epochs = None,
    max_minutes: MaxMinutes = None,
    compile: Compile = True,
    start: Annotated[
        Path | None, typer.Option(help="final.safetensors of an earlier codec run to go on from.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further teacher whose features the codec must carry; may be repeated."),
    ] = None,
    resume_anyway: ResumeAnyway = False,
) -> None:
    """Stages 1 and 1b: the universal codec, with the picture and the teacher's feature as targets."""
    from splitcodec.training.recipes import STAGE1

    if recipe not in STAGE1:
        raise typer.BadParameter(f"{recipe!r} is none of {sorted(STAGE1)}", param_hint="--recipe")
    with needing("train"):
        from splitcodec.training.codec_run import train_codec
        from splitcodec.training.paper_teachers import teacher_source
        from splitcodec.training.setting import TrainingInputs
    source = teacher_source(teacher, split, None, weights, random_weights)
    others = tuple(teacher_source(name, random_weights=random_weights) for name in also or ())
    inputs = TrainingInputs(
        data, source, out, max_minutes, start, compile, others, epochs=epochs, resume_anyway=resume_anyway
    )
    train_codec(STAGE1[recipe], inputs)


@train_app.command("prompt")
def train_prompt_command(
    data: Photos,
    teacher: TeacherName,
    codec: Annotated[Path, typer.Option(help="Stage 1's final.safetensors.")],
    out: RunFolder,
    task: Annotated[
        str | None, typer.Option(help="Task to train for (detect), or a new task's name with --split.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe in training/recipes.py; the task's own without it.")
    ] = None,
    losses: Annotated[
        Literal["practical", "paper"] | None,
        typer.Option(help="Against the teacher alone, or the paper's (1) and (2), which need COCO labels."),
    ] = None,
    split: Split = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    epochs: Epochs = None,
    validate: Annotated[
        list[Path] | None,
        typer.Option(help="Photos held out: the run ends when the loss on them stops falling."),
    ] = None,
    student: Annotated[
        Literal["feature", "pixels"],
        typer.Option(help="What the tail reads: the teacher's split feature, or a decoded picture."),
    ] = "feature",
    max_minutes: MaxMinutes = None,
    compile: Compile = True,
    resume_anyway: ResumeAnyway = False,
) -> None:
    """Stage 2: the prompt and the tail of one task on the frozen codec, taught by the teacher."""
    from splitcodec.training.recipes import OWN_TEACHER, RECIPE_OF_TASK, RECIPE_OF_TEACHER, STAGE2

    name = recipe or RECIPE_OF_TEACHER.get(teacher) or RECIPE_OF_TASK.get(task or "detect", task or "")
    if task is not None and re.fullmatch(IDENTIFIER, task) is None:
        raise typer.BadParameter(f"{task!r} must match {IDENTIFIER}", param_hint="--task")
    if name not in STAGE2 and (recipe is not None or split is None):
        raise typer.BadParameter(
            f"{name!r} is none of {sorted(STAGE2)}; a new task needs a torch teacher and --split",
            param_hint="--task",
        )
    with needing("train"):
        from splitcodec.training.paper_teachers import teacher_source
        from splitcodec.training.prompt_run import train_prompt
        from splitcodec.training.setting import TrainingInputs
    source = teacher_source(teacher, split, task, weights, random_weights)
    inputs = TrainingInputs(
        data,
        source,
        out,
        max_minutes,
        codec,
        compile,
        (),
        student,
        epochs,
        tuple(validate or ()),
        resume_anyway,
    )
    chosen = STAGE2.get(name, OWN_TEACHER)
    train_prompt(replace(chosen, losses=losses or chosen.losses), inputs)

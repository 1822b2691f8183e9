"""What every run is given and begins with: photos, the teacher and what its split tensor looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from splitcodec.training.crops import Crops, new_crops
from splitcodec.training.labels import Truth
from splitcodec.training.loop import Run
from splitcodec.training.origin import origin_of
from splitcodec.training.pixels import Student
from splitcodec.training.ranks import join_ranks, local_rank
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import (
    SplitStatistics,
    Teacher,
    TeacherSource,
    open_teacher,
    split_statistics,
)

STATISTICS_BATCHES = 12
VALIDATION_BATCHES = 16
VALIDATION_SEED = 1000  # apart from the seeds of training's crops

Net = TypeVar("Net", bound=nn.Module)


def on(device: torch.device, module: Net) -> Net:
    """To the device, channels last: depthwise and pointwise layers are twice as fast so on a CPU."""
    return module.to(device=device, memory_format=torch.channels_last)


def default_device() -> torch.device:
    """CUDA when there is one; each of several processes takes its own."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


@dataclass(frozen=True)
class TrainingInputs:
    """Files a run reads, where it writes, and how long it may take.

    start: weights of an earlier run to go on from. also: further teachers whose features stage 1 codes.
    student: what a task's tail reads in stage 2. epochs: passes over the photos, for the recipe's steps.
    validation: stage 2 stops when the loss on these photos no longer falls from one epoch to the next.
    resume_anyway: also from a checkpoint that does not say which recipe it is of.
    """

    photos: list[Path]
    teacher: TeacherSource
    folder: Path
    max_minutes: float | None = None
    start: Path | None = None
    compiled: bool = True
    also: tuple[TeacherSource, ...] = ()
    student: Student = "feature"
    epochs: float | None = None
    validation: tuple[Path, ...] = ()
    resume_anyway: bool = False


def run_of(recipe: Recipe, inputs: TrainingInputs, photos: int) -> Run:
    """The loop's settings from a recipe, what the command line gave, and the number of photos."""
    epoch = max(1, round(photos / (recipe.batch * join_ranks().count)))
    epochs = recipe.epochs if inputs.epochs is None else inputs.epochs
    return Run(
        inputs.folder,
        recipe.steps if epochs is None else max(1, round(epochs * epoch)),
        recipe.batch,
        inputs.max_minutes,
        recipe.warm_up_share,
        recipe.warm_up_from,
        recipe.name,
        recipe.seed,
        inputs.start,
        epoch,
        origin_of(recipe, inputs.start, (inputs.teacher, *inputs.also), inputs.student),
        inputs.resume_anyway,
    )


def validation_batches(recipe: Recipe, inputs: TrainingInputs) -> list[tuple[Tensor, Truth | None]]:
    """The crops that every epoch is checked on."""
    with new_crops(recipe, inputs.validation, recipe.seed + VALIDATION_SEED)[0] as crops:
        return [crops.draw() for _ in range(VALIDATION_BATCHES)]


def bfloat16_where_fast(device: torch.device) -> torch.autocast:
    """For teachers without gradient: bfloat16 on a GPU, and on a CPU whose units compute in it.

    Three times faster there, and 4 to 10 % off per tensor: good enough for the targets of stage 1.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = device.type == "cuda" or bool(capabilities.get("avx512_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


@dataclass(frozen=True)
class TeacherSetting:
    """The frozen teacher, the crops it is shown, its split tensor's statistics on them, number of photos."""

    teacher: Teacher
    crops: Crops
    statistics: SplitStatistics
    photos: int

    def compiled_targets(
        self, compiled: bool, deep: bool, coarse: bool = False
    ) -> Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]:
        """image -> the split tensor and, if `deep`, everything behind it; no gradients.

        coarse: in bfloat16 where that is faster.
        """

        @torch.no_grad()
        def targets(image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            target = self.teacher.split(image)
            return target, self.teacher.tail(target) if deep else {}

        def coarse_targets(image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            with bfloat16_where_fast(image.device):
                target, wanted = targets(image)
            return target.float(), {name: value.float() for name, value in wanted.items()}

        if coarse:
            return coarse_targets

        return torch.compile(targets) if compiled else targets


@contextmanager
def teacher_setting(recipe: Recipe, inputs: TrainingInputs, device: torch.device) -> Iterator[TeacherSetting]:
    """Load photos and teacher; measure the split tensor's statistics on some batches. Closes the crops."""
    teacher = open_teacher(inputs.teacher)
    ranks = join_ranks()
    crops, photos = new_crops(recipe, inputs.photos, recipe.seed + ranks.rank)
    with crops:
        statistics = split_statistics(teacher, [crops.next() for _ in range(STATISTICS_BATCHES)]).to(device)
        ranks.average([statistics.variance, statistics.sensitivity])
        yield TeacherSetting(on(device, teacher), crops, statistics, photos)

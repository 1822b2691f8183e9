"""What a checkpoint's weights are of: the recipe, its seed, its teachers and the weights it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from splitcodec.errors import TrainingError
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import TeacherSource

SHOWN = 12  # hex digits of a digest in a message


class Origin(BaseModel):
    """recipe: its name; settings: SHA-256 of its contents; start: SHA-256 of the weights, None if random.

    teachers: SHA-256 over the files and names of the teachers, and of what the tail reads; None in a
    checkpoint written before this was recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    settings: str
    seed: int
    start: str | None
    teachers: str | None = None

    def __str__(self) -> str:
        """The recipe and so on, in a phrase."""
        begin = "random weights" if self.start is None else f"the weights {self.start[:SHOWN]}"
        taught = "" if self.teachers is None else f", teachers {self.teachers[:SHOWN]}"
        return f"recipe {self.recipe} ({self.settings[:SHOWN]}), seed {self.seed}, begun with {begin}{taught}"

    def is_of(self, run: Origin) -> bool:
        """Whether `run` would go on with these weights; teachers that were not recorded may be any."""
        return self == (run if self.teachers is not None else run.model_copy(update={"teachers": None}))


def origin_of(
    recipe: Recipe, start: Path | None, teachers: Sequence[TeacherSource] = (), student: str = ""
) -> Origin:
    """The origin of a run's weights; TrainingError if a file that it begins from cannot be read.

    student: what the tail reads in stage 2.
    """
    if start is not None and not start.is_file():
        raise TrainingError(f"there is no {start} to start from; give the final.safetensors of a run")
    return Origin(
        recipe=recipe.name,
        settings=_settings_digest(recipe),
        seed=recipe.seed,
        start=None if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
        teachers=_teachers_digest(teachers, student) if teachers else None,
    )


def parse_origin(text: str, where: Path) -> Origin:
    """What a checkpoint's metadata say of it; TrainingError if they say nothing that is known here."""
    try:
        return Origin.model_validate_json(text)
    except ValidationError as error:
        raise TrainingError(
            f"{where} says of its origin {text[:200]!r}, which this version cannot read; give another --out"
        ) from error


def _teachers_digest(teachers: Sequence[TeacherSource], student: str) -> str:
    told = [student, *("\0".join(_named(teacher)) for teacher in teachers)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _named(teacher: TeacherSource) -> tuple[str, ...]:
    """What decides about a teacher's answers; a file by its bytes, so that it may be moved."""
    if isinstance(teacher, Path):
        return (_file_digest(teacher),)
    weights = "" if teacher.weights is None else _file_digest(teacher.weights)
    return teacher.function, teacher.split, teacher.task, weights


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(
            f"the teacher's file {path} cannot be read ({error.strerror}); check the path"
        ) from error


def _settings_digest(recipe: Recipe) -> str:
    """SHA-256 in hex of what the recipe sets; a field that a later version adds changes nothing by itself."""
    told = {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if field.default is MISSING or getattr(recipe, field.name) != field.default
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

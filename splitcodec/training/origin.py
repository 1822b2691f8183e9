"""What a checkpoint's weights are of: the recipe, its seed and the weights it began with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from splitcodec.errors import TrainingError
from splitcodec.training.recipes import Recipe

SHOWN = 12  # hex digits of a digest in a message


class Origin(BaseModel):
    """recipe: its name; settings: SHA-256 of its contents; start: SHA-256 of the weights, None if random."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    settings: str
    seed: int
    start: str | None

    def __str__(self) -> str:
        """The recipe and so on, in a phrase."""
        begin = "random weights" if self.start is None else f"the weights {self.start[:SHOWN]}"
        return f"recipe {self.recipe} ({self.settings[:SHOWN]}), seed {self.seed}, begun with {begin}"


def origin_of(recipe: Recipe, start: Path | None) -> Origin:
    """The origin of a run's weights; TrainingError if the weights it starts from cannot be read."""
    if start is not None and not start.is_file():
        raise TrainingError(f"there is no {start} to start from; give the final.safetensors of a run")
    return Origin(
        recipe=recipe.name,
        settings=_settings_digest(recipe),
        seed=recipe.seed,
        start=None if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
    )


def parse_origin(text: str, where: Path) -> Origin:
    """What a checkpoint's metadata say of it; TrainingError if they say nothing that is known here."""
    try:
        return Origin.model_validate_json(text)
    except ValidationError as error:
        raise TrainingError(
            f"{where} says of its origin {text[:200]!r}, which this version cannot read; give another --out"
        ) from error


def _settings_digest(recipe: Recipe) -> str:
    """SHA-256 in hex of what the recipe sets; a field that a later version adds changes nothing by itself."""
    told = {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if field.default is MISSING or getattr(recipe, field.name) != field.default
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

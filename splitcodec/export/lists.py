"""Files an export is given: JSON lists of tasks and of training data."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from splitcodec.errors import TrainingError
from splitcodec.packs.schema import MAX_LABEL

Item = TypeVar("Item", bound=BaseModel)
SHOWN = 5  # faults that a message names


def read_list(path: Path, option: str, kind: type[Item]) -> list[Item]:
    """A JSON list of these; TrainingError names the file, the option and what is wrong where."""
    try:
        return TypeAdapter(list[kind]).validate_json(path.read_bytes())  # type: ignore[valid-type]
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be read ({error.strerror}); give a JSON file with {option}"
        ) from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors()]
        raise TrainingError(
            f"{path} is no list for {option}: {'; '.join(faults[:SHOWN])}; see docs/training.md"
        ) from error


def read_labels(path: Path) -> tuple[str, ...]:
    """A text file whose line k names class k; TrainingError if it cannot be read.

    Of synonyms that are too long for a pack the first ones are kept.
    """
    try:
        return tuple(_fitting(line) for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"the labels {path} cannot be read ({error}); give a text file whose line k names class k"
        ) from error


def _fitting(names: str) -> str:
    if len(names) <= MAX_LABEL:
        return names
    kept, _, _ = names[: MAX_LABEL + 1].rpartition(", ")
    return kept or names  # the schema says no to one long name

"""What was run to get a checkpoint: run.json beside it, with the runs it went on from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

RUN_FILE = "run.json"


class RunSummary(BaseModel):
    """One finished run. seconds: of training; after: the run whose weights it started from.

    batch: crops per step over all processes; step_seconds: median; peak_bytes: see cost.StepCost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    seed: int
    steps: int
    batch: int
    seconds: float
    machine: str
    step_seconds: float | None = None
    peak_bytes: int | None = None
    after: RunSummary | None = None

    def line(self) -> list[RunSummary]:
        """Every run that led here, the first one first."""
        earlier = [] if self.after is None else self.after.line()
        return [*earlier, self]


def read_summary(checkpoint: Path) -> RunSummary | None:
    """The summary beside a checkpoint file, None if there is none."""
    path = checkpoint.parent / RUN_FILE
    return RunSummary.model_validate_json(path.read_bytes()) if path.is_file() else None


def write_summary(folder: Path, summary: RunSummary) -> None:
    """Write folder/run.json."""
    (folder / RUN_FILE).write_text(summary.model_dump_json() + "\n", encoding="utf-8")

"""The loop every training run shares: schedule, weight average, log, checkpoint, resume, progress bar."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from splitcodec.errors import TrainingError
from splitcodec.provenance import cpu_name
from splitcodec.training.checkpoint import Progress, resume, save_checkpoint
from splitcodec.training.history import RunSummary, read_summary, write_summary

AVERAGE_DECAY = 0.998
CLIP = 1.0
LOG_EVERY = 50
SAVE_EVERY_S = 240.0


@dataclass(frozen=True)
class StepResult:
    """What one step gives back: the loss to minimise and numbers worth a line in the log."""

    loss: Tensor
    log: dict[str, list[float]]


@dataclass(frozen=True)
class Run:
    """A run's folder, length and bounds. max_minutes shortens it; the schedule then still runs to its end."""

    folder: Path
    steps: int
    batch: int
    max_minutes: float | None = None
    warm_up_share: float = 1.0 / 3.0
    recipe: str = ""
    seed: int = 0
    start: Path | None = None  # checkpoint the weights came from

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"


class Schedule:
    """Progress 0..1 from steps, or from minutes when the run is bounded by time."""

    def __init__(self, run: Run, done: Progress) -> None:
        self._run, self._earlier, self._begin = run, done.seconds, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier parts of a resumed run included."""
        return self._earlier + time.monotonic() - self._begin

    def progress(self, step: int) -> float:
        """The larger of the shares of steps and of minutes that are used up."""
        minutes = self._run.max_minutes
        spent = 0.0 if minutes is None else self.seconds / 60.0 / minutes
        return min(1.0, max(step / self._run.steps, spent))

    @staticmethod
    def rate(progress: float) -> float:
        """Factor of the learning rate: a short linear start, then cosine to 1 %."""
        return min(1.0, progress / 0.01 + 0.05) * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def rate_term(self, progress: float) -> float:
        """Weight of the bits: 0.02 to 1."""
        return 0.02 + 0.98 * min(1.0, progress / self._run.warm_up_share)


class Trainer:
    """Adam with clipping and a weight average over the parameters of named modules."""

    def __init__(self, run: Run, modules: dict[str, nn.Module], groups: list[dict[str, object]]) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run, self._modules = run, modules
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self._parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        self._base_rates = [group["lr"] for group in self._optimiser.param_groups]
        self._average = [p.detach().clone() for p in self._parameters]
        self._done = Progress(0, 0.0)
        if run.checkpoint.exists():
            self._average, self._done = resume(run.checkpoint, modules, self._optimiser, self._parameters)

    def train(self, step_fn: Callable[[float], StepResult]) -> None:
        """Run step_fn(weight of the rate term) to the end; leaves averaged weights in final.safetensors."""
        schedule = Schedule(self._run, self._done)
        step, saved = self._done.steps, time.monotonic()
        with (
            (self._run.folder / "log.jsonl").open("a") as log,
            tqdm(total=self._run.steps, initial=step) as bar,
        ):
            while (progress := schedule.progress(step)) < 1.0:
                result = self._update(step_fn, schedule, progress, step)
                if step % LOG_EVERY == 0:
                    log.write(json.dumps({"step": step, "progress": round(progress, 4), **result.log}) + "\n")
                    log.flush()
                step += 1
                bar.update(1)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self._save(Progress(step, schedule.seconds))
                    saved = time.monotonic()
        self._finish(Progress(step, schedule.seconds))

    def _update(
        self, step_fn: Callable[[float], StepResult], schedule: Schedule, progress: float, step: int
    ) -> StepResult:
        for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * schedule.rate(progress)
        result = step_fn(schedule.rate_term(progress))
        if not torch.isfinite(result.loss):
            raise TrainingError(
                f"the loss of step {step} is {float(result.loss.detach())}; the last checkpoint is sound: "
                "lower the recipe's learning rate and start again"
            )
        self._optimiser.zero_grad(set_to_none=True)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._optimiser.step()
        with torch.no_grad():
            decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
            torch._foreach_lerp_(self._average, self._parameters, 1.0 - decay)
        return result

    def _save(self, done: Progress) -> None:
        save_checkpoint(self._run.checkpoint, self._modules, self._optimiser, self._average, done)

    def _finish(self, done: Progress) -> None:
        self._save(done)
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._average, strict=True):
                parameter.copy_(value)
        save_checkpoint(self._run.folder / "final.safetensors", self._modules, None, [], done)
        machine = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu()
        summary = RunSummary(
            recipe=self._run.recipe,
            seed=self._run.seed,
            steps=done.steps,
            batch=self._run.batch,
            seconds=round(done.seconds, 1),
            machine=machine,
            after=None if self._run.start is None else read_summary(self._run.start),
        )
        write_summary(self._run.folder, summary)


def _cpu() -> str:
    return f"{torch.get_num_threads()} threads of {cpu_name()}"

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
from splitcodec.training.checkpoint import TrainingProgress, check_origin, resume, save_checkpoint
from splitcodec.training.cost import StepClock, StepCost
from splitcodec.training.history import RunSummary, read_summary, write_summary
from splitcodec.training.origin import Origin
from splitcodec.training.ranks import join_ranks

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
    """A run's folder, length and bounds. max_minutes shortens it; the schedule then still runs to its end.

    epoch: steps after which a check, if there is one, is asked whether to go on. origin: what a checkpoint
    found in the folder must be of; resume_anyway: even if it does not say.
    """

    folder: Path
    steps: int
    batch: int
    max_minutes: float | None = None
    warm_up_share: float = 1.0 / 3.0
    warm_up_from: float = 0.02  # weight of the rate term at the first step
    recipe: str = ""
    seed: int = 0
    start: Path | None = None  # checkpoint the weights came from
    epoch: int | None = None
    origin: Origin | None = None
    resume_anyway: bool = False

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"


class Schedule:
    """Progress 0..1 from steps, or from minutes when the run is bounded by time."""

    def __init__(self, run: Run, done: TrainingProgress) -> None:
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
        """Factor of the learning rate: a short linear start, then cosine to 2 %."""
        return min(1.0, progress / 0.01 + 0.05) * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def rate_term(self, progress: float) -> float:
        """Weight of the bits, from the run's first one to 1."""
        first = self._run.warm_up_from
        return first + (1.0 - first) * min(1.0, progress / self._run.warm_up_share)


class Trainer:
    """Adam with clipping and a weight average over the parameters of named modules.

    In several processes (ranks.py) each takes the mean gradient, and the first one writes.
    """

    def __init__(self, run: Run, modules: dict[str, nn.Module], groups: list[dict[str, object]]) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run, self._modules, self._ranks = run, modules, join_ranks()
        self._optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self._parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        self._base_rates = [group["lr"] for group in self._optimiser.param_groups]
        state = [value for module in modules.values() for value in module.state_dict().values()]
        self._ranks.copy_first(state)
        self._average = [p.detach().clone() for p in self._parameters]
        self._done = TrainingProgress(0, 0.0)
        self._clock = StepClock()
        if run.checkpoint.exists():
            if run.origin is not None:
                check_origin(run.checkpoint, run.origin, run.resume_anyway)
            self._average, self._done = resume(run.checkpoint, modules, self._optimiser, self._parameters)

    def train(
        self, step_fn: Callable[[float, float], StepResult], check: Callable[[], float] | None = None
    ) -> None:
        """Run step_fn(weight of the rate term, progress 0..1) to the end.

        check: a loss on other pictures, asked for after each epoch; the run ends when it no longer falls.
        Leaves averaged weights in final.safetensors.
        """
        schedule = Schedule(self._run, self._done)
        step, saved, best = self._done.steps, time.monotonic(), math.inf
        first = self._ranks.is_first
        with (
            (self._run.folder / "log.jsonl").open("a") as log,
            tqdm(total=self._run.steps, initial=step, disable=not first) as bar,
        ):
            while (progress := self._agreed(schedule.progress(step))) < 1.0:
                result = self._update(step_fn, schedule, progress, step)
                if step % LOG_EVERY == 0 and first:
                    log.write(json.dumps({"step": step, "progress": round(progress, 4), **result.log}) + "\n")
                    log.flush()
                step += 1
                bar.update(1)
                self._clock.tick()
                if first and time.monotonic() - saved > SAVE_EVERY_S:
                    self._save(TrainingProgress(step, schedule.seconds))
                    saved = time.monotonic()
                if check is not None and self._run.epoch and step % self._run.epoch == 0:
                    before, best = best, self._checked(check, step, best)
                    if best >= before:
                        break
        self._finish(TrainingProgress(step, schedule.seconds))

    def _checked(self, check: Callable[[], float], step: int, best: float) -> float:
        """The loss on pictures held out, the same for every process."""
        found = self._mean(check())
        if self._ranks.is_first:
            tqdm.write(f"step {step}: loss {found:.5f} on the validation crops, {best:.5f} an epoch before")
        return found

    def _agreed(self, progress: float) -> float:
        """The first process's clock decides where a run bounded by time stands."""
        if self._run.max_minutes is None:
            return progress
        return self._ranks.first_says(progress, self._parameters[0].device)

    def _mean(self, value: float) -> float:
        told = torch.tensor([value], device=self._parameters[0].device)
        self._ranks.average([told])
        return float(told)

    def _update(
        self, step_fn: Callable[[float, float], StepResult], schedule: Schedule, progress: float, step: int
    ) -> StepResult:
        for group, rate in zip(self._optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * schedule.rate(progress)
        result = step_fn(schedule.rate_term(progress), progress)
        if not math.isfinite(self._mean(float(result.loss.detach()))):
            raise TrainingError(
                f"the loss of step {step} is {float(result.loss.detach())}; the last checkpoint is sound: "
                "lower the recipe's learning rate and start again"
            )
        self._optimiser.zero_grad(set_to_none=True)
        result.loss.backward()
        self._ranks.average([p.grad for p in self._parameters if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._optimiser.step()
        with torch.no_grad():
            decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
            torch._foreach_lerp_(self._average, self._parameters, 1.0 - decay)
        return result

    def _save(self, done: TrainingProgress) -> None:
        run = self._run
        save_checkpoint(run.checkpoint, self._modules, self._optimiser, self._average, done, run.origin)

    def _finish(self, done: TrainingProgress) -> None:
        cost = self._clock.cost()
        first = self._ranks.is_first
        if first:
            self._save(done)
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._average, strict=True):
                parameter.copy_(value)
        if first:
            save_checkpoint(self._run.folder / "final.safetensors", self._modules, None, [], done)
            write_summary(self._run.folder, self._summary(done, cost))
            tqdm.write(f"{self._run.recipe}: {done.steps} steps" + (f", {cost}" if cost else ""))
        self._ranks.first_says(0.0, self._parameters[0].device)  # nobody leaves before the files are there

    def _summary(self, done: TrainingProgress, cost: StepCost | None) -> RunSummary:
        machine = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu()
        count = self._ranks.count
        return RunSummary(
            recipe=self._run.recipe,
            seed=self._run.seed,
            steps=done.steps,
            batch=self._run.batch * count,
            seconds=round(done.seconds, 1),
            machine=machine if count == 1 else f"{count} x {machine}",
            step_seconds=None if cost is None else round(cost.seconds, 4),
            peak_bytes=None if cost is None else cost.peak_bytes,
            after=None if self._run.start is None else read_summary(self._run.start),
        )


def _cpu() -> str:
    return f"{torch.get_num_threads()} threads of {cpu_name()}"

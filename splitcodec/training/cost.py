"""What a training step costs, so that a longer run can be planned: seconds and peak memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass, field

import torch

WARM_UP = 2  # first steps compile, allocate and fill caches
KEPT = 512  # times of the latest steps


@dataclass(frozen=True)
class StepCost:
    """seconds: median of a step; peak_bytes: of device memory on a GPU, of the whole process on a CPU."""

    seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s and {self.peak_bytes / 2**30:.2f} GiB at the peak per step"


@dataclass
class StepClock:
    """Times steps: call tick() at the end of each."""

    _last: float = field(default_factory=time.monotonic)
    _times: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        self._times.append(now - self._last)
        del self._times[:-KEPT]
        self._last = now

    def cost(self) -> StepCost | None:
        """None before the first step."""
        settled = self._times[WARM_UP:] or self._times
        return StepCost(statistics.median(settled), peak_bytes()) if settled else None


def peak_bytes() -> int:
    """Peak memory so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

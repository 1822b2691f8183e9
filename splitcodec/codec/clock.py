"""Seconds per named stage of the codec."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent in each named stage; `with clock("head"): ...` adds to that stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@contextmanager
def shared(clocks: Sequence[Stopwatch], stage: str) -> Iterator[None]:
    """Times a stage run once for several frames and adds an even share of it to each frame's clock."""
    whole = Stopwatch()
    try:
        with whole(stage):
            yield
    finally:
        for clock in clocks:
            clock.seconds[stage] = clock.seconds.get(stage, 0.0) + whole.seconds[stage] / len(clocks)

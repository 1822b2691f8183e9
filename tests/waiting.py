"""For tests: waiting for what another task, thread or process brings about, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 30.0  # far above what anything here takes
PAUSE_S = 0.005


async def until(holds: Callable[[], object | Awaitable[object]], patience_s: float = PATIENCE_S) -> None:
    """Ask again until the answer is true; the test fails if it is not within patience_s seconds."""
    end = time.monotonic() + patience_s
    while True:
        answer = holds()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < end, f"it was not true within {patience_s:g} s"
        await asyncio.sleep(PAUSE_S)

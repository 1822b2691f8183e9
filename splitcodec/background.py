"""Work that a service does beside its calls, over and over, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from prometheus_client import Counter

log = logging.getLogger(__name__)


async def keep_going(
    name: str, step: Callable[[], Awaitable[object]], pause_s: float, counter: Counter
) -> NoReturn:
    """Run `step` and pause for pause_s seconds, over and over, until this coroutine is cancelled.

    Whatever else `step` ends with is logged and counted in `counter`, whose one label is the name; the count
    is shown from the start, as 0. A CancelledError that comes from within counts too: a future inside `step`
    may have been cancelled by its maker. When this coroutine is cancelled, `step` ends first.
    """
    failures = counter.labels(name)
    while True:
        (outcome,) = await asyncio.gather(_awaited(step), return_exceptions=True)
        if isinstance(outcome, BaseException):
            failures.inc()
            log.error("%s failed; next try in %g s", name, pause_s, exc_info=outcome)
        await asyncio.sleep(pause_s)


async def _awaited(step: Callable[[], Awaitable[object]]) -> object:
    """So that what `step` raises before there is anything to await counts as its failure too."""
    return await step()

"""Waiting that can always be cancelled: asyncio.wait_for swallows a cancellation that meets the event."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def wait_set(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Whether the event was set within timeout_s seconds."""
    return await in_time(event.wait(), timeout_s) is not None


async def in_time(work: Coroutine[Any, Any, T], timeout_s: float | None) -> T | None:
    """What `work` gives, or None if that takes longer; then it is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        return task.result() if task.done() else None
    finally:
        task.cancel()

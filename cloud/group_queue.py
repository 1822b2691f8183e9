"""What waits for a worker, group by group: which items go together next, and when the next ones may."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class GroupQueue(Generic[Item]):
    """A line of items for each group. Times are seconds of one clock, of any origin.

    A group is ready once `max_batch` of its items wait, or its oldest one has waited `window_s`. Of those
    that are ready the one with the oldest item goes first. So no group waits for the window of another, and
    one that is ready waits only for batches whose oldest item came before its own.
    """

    def __init__(self, max_batch: int, window_s: float) -> None:
        self._max_batch = max_batch
        self._window_s = window_s
        self._lines: dict[Hashable, OrderedDict[Item, float]] = {}  # when each item came; no line is empty

    def put(self, item: Item, group: Hashable, now: float) -> None:
        """Add an item, which is in no line yet."""
        self._lines.setdefault(group, OrderedDict())[item] = now

    def discard(self, item: Item, group: Hashable) -> None:
        """Remove an item of `group`; nothing if it waits no more."""
        line = self._lines.get(group)
        if line is not None and line.pop(item, None) is not None and not line:
            del self._lines[group]

    def take(self, now: float) -> list[Item]:
        """Remove the items that go together now, at most `max_batch`, in the order they came; or none."""
        ready = [(_oldest(line), group) for group, line in self._lines.items() if self._is_ready(line, now)]
        if not ready:
            return []
        _, group = min(ready, key=lambda candidate: candidate[0])
        line = self._lines[group]
        batch = [line.popitem(last=False)[0] for _ in range(min(self._max_batch, len(line)))]
        if not line:
            del self._lines[group]
        return batch

    def next_due(self) -> float | None:
        """When the first group has waited `window_s`; None if nothing waits."""
        return min((_oldest(line) + self._window_s for line in self._lines.values()), default=None)

    def clear(self) -> list[Item]:
        """Remove and return every item."""
        items = [item for line in self._lines.values() for item in line]
        self._lines.clear()
        return items

    def _is_ready(self, line: OrderedDict[Item, float], now: float) -> bool:
        return len(line) >= self._max_batch or _oldest(line) + self._window_s <= now


def _oldest(line: OrderedDict[Item, float]) -> float:
    """When the first item of a line came."""
    return next(iter(line.values()))

"""Things made ahead of their use by one background thread, a bounded number of them, until it is closed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from splitcodec.errors import TrainingError

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Calls make() in a thread of its own and hands out what it gave, in order; `with` or close() ends it.

    make: runs in that thread alone, so it may keep state, such as a random generator, that nobody else uses
    before close() returned. ahead: how many items are kept ready at most.
    """

    def __init__(self, make: Callable[[], Item], ahead: int, name: str = "prefetch") -> None:
        self._make, self._ahead = make, ahead
        self._ready: deque[Item] = deque()
        self._failure: BaseException | None = None
        self._trace: TracebackType | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, daemon=True, name=name)
        self._thread.start()

    def __enter__(self) -> Prefetcher[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self) -> Item:
        """The next item; waits for the thread if it is behind.

        An exception of make() is raised in the place of the item it cost, and by every call after it.
        TrainingError: closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure or self._is_closed)
            if self._is_closed:
                raise TrainingError(f"{self._thread.name} is closed and gives nothing more; open another")
            if not self._ready and self._failure is not None:
                raise self._failure.with_traceback(self._trace)
            self._changed.notify_all()
            return self._ready.popleft()

    def close(self) -> None:
        """End the thread and drop what is ready; waits for the make() that is running. May be repeated."""
        with self._changed:
            self._is_closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def _fill(self) -> None:
        try:
            while self._has_room():
                item = self._make()
                with self._changed:
                    if not self._is_closed:
                        self._ready.append(item)
                        self._changed.notify_all()
        except BaseException as error:  # of whatever kind: without it next() would wait for ever
            with self._changed:
                self._failure, self._trace = error, error.__traceback__
                self._changed.notify_all()

    def _has_room(self) -> bool:
        """Wait until an item is wanted; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._ready) < self._ahead)
            return not self._is_closed

"""Device copies of arrays that never change, found again by identity and dropped with their array."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import Lock
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

T = TypeVar("T")


class ConstantCache(Generic[T]):
    """Keeps `upload(array)` for each read-only array for as long as the array lives; thread-safe.

    Prompt tensors are read-only and shared by all frames of a task, so they reach a device once per prompt.
    """

    def __init__(self, upload: Callable[[NDArray[Any]], T]) -> None:
        self._upload = upload
        self._lock = Lock()
        self._held: dict[int, tuple[weakref.ref[NDArray[Any]], T]] = {}

    def get(self, array: NDArray[Any]) -> T:
        """The device copy of a read-only array, uploaded at the first call."""
        key = id(array)
        with self._lock:
            self._drop_dead()
            held = self._held.get(key)
            if held is None or held[0]() is not array:
                held = self._held[key] = (weakref.ref(array), self._upload(array))
            return held[1]

    def _drop_dead(self) -> None:
        for key in [key for key, (reference, _) in self._held.items() if reference() is None]:
            del self._held[key]

    def __len__(self) -> int:
        return len(self._held)

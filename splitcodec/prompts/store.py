"""Which prompts live, and which one each task uses: stage, verify, activate, lease, retire.

A new prompt is staged (checked and warmed while the old one works), then made the active one of its task in
one step. A frame leases the prompt it starts with, so a switch never mixes two prompts within a frame; a
prompt that is no longer active stays until its last lease ends and it is retired. Several prompts of one task
may live at once: a bitstream names its own by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from splitcodec.errors import PromptStateError, UnknownPrompt, UnknownTask
from splitcodec.prompts.prompt import Prompt

Warm = Callable[[Prompt], None]


@dataclass(frozen=True)
class PromptStatus:
    """One live prompt: its task and digest (hex), whether its task uses it, and how many leases are out.

    retiring: it goes with its last lease.
    """

    task: str
    digest: str
    active: bool
    leases: int
    retiring: bool = False


@dataclass
class _HeldPrompt:
    prompt: Prompt
    leases: int = 0
    retiring: bool = False


class PromptStore:
    """All live prompts; every method may be called from any thread."""

    def __init__(self, prompts: Iterable[Prompt] = ()) -> None:
        """Starts with `prompts`, already verified, each the active one of its task."""
        self._lock = Lock()
        self._entries: dict[bytes, _HeldPrompt] = {}
        self._active: dict[str, bytes] = {}
        self.on_gone: Callable[[Prompt], None] | None = None  # for a retired prompt without a lease
        for prompt in prompts:
            self.stage(prompt)
            self.activate(prompt.digest)

    def stage(self, prompt: Prompt, warm: Warm | None = None) -> None:
        """Adds a prompt without using it; `warm(prompt)` runs first, outside the lock, and may refuse it by
        raising.

        Staging a prompt that is live already changes nothing but ends its retirement. Raises PromptStateError
        if another live prompt shares its 8 wire bytes, and whatever `warm` raises.
        """
        if warm is not None:
            warm(prompt)
        with self._lock:
            entry = self._entries.setdefault(prompt.wire_digest, _HeldPrompt(prompt))
            if entry.prompt.digest != prompt.digest:
                raise PromptStateError(
                    f"prompt {prompt.digest} and live prompt {entry.prompt.digest} share 8 bytes"
                )
            entry.retiring = False

    def activate(self, digest: str) -> str | None:
        """Makes a staged prompt (hex digest) the one its task uses; returns the digest it replaced, or None.

        The switch is atomic: a lease taken before keeps the old prompt, one taken after gets the new one.
        Raises PromptStateError if the prompt is not staged.
        """
        with self._lock:
            entry = self._entries.get(_wire(digest))
            if entry is None or entry.prompt.digest != digest or entry.retiring:
                raise PromptStateError(f"prompt {digest} is not staged; stage it before activating it")
            before = self._active.get(entry.prompt.task)
            self._active[entry.prompt.task] = entry.prompt.wire_digest
            return None if before is None else self._entries[before].prompt.digest

    def retire(self, digest: str) -> None:
        """Removes a prompt as soon as no lease is out; it takes no new leases from now on.

        Raises PromptStateError if it is unknown or still the active one of its task.
        """
        with self._lock:
            key = _wire(digest)
            entry = self._entries.get(key)
            if entry is None or entry.prompt.digest != digest:
                raise PromptStateError(f"prompt {digest} is not live; it may have been retired already")
            if self._active.get(entry.prompt.task) == key:
                raise PromptStateError(
                    f"prompt {digest} is active for {entry.prompt.task}; activate another one first"
                )
            entry.retiring = True
            gone = self._drop_if_idle(key, entry)
        self._tell(gone)

    @contextmanager
    def lease(self, task: str) -> Iterator[Prompt]:
        """The active prompt of `task`, held until the block ends; raises UnknownTask."""
        with self._lock:
            key = self._active.get(task)
            if key is None:
                raise UnknownTask(
                    f"no prompt is active for task {task!r}; the tasks are {sorted(self._active)}"
                )
            entry = self._entries[key]
            entry.leases += 1
        yield from self._held(key, entry)

    @contextmanager
    def lease_digest(self, wire_digest: bytes) -> Iterator[Prompt]:
        """The live prompt a bitstream names by its 8 bytes, held until the block ends.

        Raises UnknownPrompt.
        """
        with self._lock:
            entry = self._entries.get(wire_digest)
            if entry is None or entry.retiring:
                have = sorted(e.prompt.digest[:16] for e in self._entries.values())
                raise UnknownPrompt(
                    f"bitstream was made with prompt {wire_digest.hex()}, this side holds {have}; publish "
                    "it here"
                )
            entry.leases += 1
        yield from self._held(wire_digest, entry)

    def _held(self, key: bytes, entry: _HeldPrompt) -> Iterator[Prompt]:
        try:
            yield entry.prompt
        finally:
            with self._lock:
                entry.leases -= 1
                gone = self._drop_if_idle(key, entry)
            self._tell(gone)

    def _drop_if_idle(self, key: bytes, entry: _HeldPrompt) -> Prompt | None:
        if entry.retiring and entry.leases == 0 and self._entries.get(key) is entry:
            del self._entries[key]
            return entry.prompt
        return None

    def _tell(self, gone: Prompt | None) -> None:
        if gone is not None and self.on_gone is not None:
            self.on_gone(gone)

    def tasks(self) -> tuple[str, ...]:
        """Tasks with an active prompt, sorted."""
        with self._lock:
            return tuple(sorted(self._active))

    def list(self) -> tuple[PromptStatus, ...]:
        """Every live prompt, sorted by task and digest."""
        with self._lock:
            rows = [
                PromptStatus(
                    e.prompt.task,
                    e.prompt.digest,
                    self._active.get(e.prompt.task) == key,
                    e.leases,
                    e.retiring,
                )
                for key, e in self._entries.items()
            ]
        return tuple(sorted(rows, key=lambda row: (row.task, row.digest)))


def _wire(digest: str) -> bytes:
    """The 8 wire bytes of a hex digest; empty, which names no prompt, if it is not hex."""
    try:
        return bytes.fromhex(digest)[:8]
    except ValueError:
        return b""

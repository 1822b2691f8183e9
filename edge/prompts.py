"""Prompts that come while the edge runs: verified, warmed, staged, switched between two frames, rolled back.

All of it happens in one thread beside the one that encodes, so frames go on meanwhile. Packs that came lie on
a shelf and come back after a restart; when there are too many, the oldest that no task uses go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from edge.codec import Codec, TaskInput
from edge.etags import check_match
from edge.metrics import EdgeMetrics
from edge.worker import Worker
from splitcodec.errors import (
    GraphFailed,
    InvalidPrompt,
    InvalidRequest,
    PromptNotFound,
    PromptStateError,
    SigmaIndexMismatch,
    SplitcodecError,
)
from splitcodec.packs.digest import wire_digest
from splitcodec.packs.prompt_pack import PromptPack, load_prompt_pack, named_in
from splitcodec.packs.shelf import PromptShelf
from splitcodec.prompt_ledger import PromptLedger
from splitcodec.prompt_probation import Probation
from splitcodec.prompts import Prompt, PromptStatus
from splitcodec.rate_control import RatePoints
from splitcodec.signing.trust import TrustStore

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WAITING: Final = 8  # changes that wait for the one in work


class EdgePrompts:
    """Its coroutines belong to one event loop."""

    def __init__(
        self,
        codec: Codec,
        shelf: PromptShelf,
        metrics: EdgeMetrics,
        kept: int,
        trust: TrustStore | None,
        pinned: Callable[[], Collection[bytes]] = frozenset,
    ) -> None:
        """kept: packs on the shelf that no task uses, for a roll-back; trust: whose signatures count; pinned:
        the prompts, 8 bytes each, that cameras keep to.
        """
        self._codec = codec
        self._metrics = metrics
        self._kept = kept
        self._trust = trust
        self._pinned = pinned
        self._thread = Worker("prompt", MAX_WAITING)
        self._own = frozenset(codec.inputs)  # digests of the pack's prompts
        self._arrived: list[str] = []  # and of those that came later, oldest first
        self.shelf = shelf
        self.ledger = PromptLedger(metrics)
        self.probation = Probation()
        self.on_given_up: Callable[[], None] | None = None
        self.points: dict[str, RatePoints] = {}
        codec.prompts.on_gone = self._gone
        metrics.prompt_leases.set_function(lambda: sum(row.leases for row in codec.prompts.list()))

    def restore(self) -> None:
        """Bring back what came and what was active before a restart; what no longer works is logged."""
        for place in self.shelf.places():
            try:
                trust = None if self._trust is None else self._trust.without_memory()
                pack = self._load(place, trust)
                self._warm_and_stage(pack)
                self._arrived.append(pack.prompt.digest)
            except SplitcodecError as error:
                log.error("a prompt that came earlier is not served: %s", error)
        saved = self.shelf.active()
        for (codec, task), digest in saved.items():
            row = self._find(digest)
            if codec != wire_digest(self._codec.codec_digest) or row is None or row.task != task:
                log.error("task %s starts with the prompt of its pack: %s is not here", task, digest.hex())
                continue
            self._codec.prompts.activate(row.digest)
        self._show()

    async def stage(self, place: Path) -> str:
        """Take the prompt pack at `place`, which is moved away; its hex digest. Nothing uses it yet.

        SignatureError, PackMismatch, the PackError and PromptError families, StoreUnavailable: nothing has
        changed.
        """
        return await self._thread.run(lambda: self._stage(place))

    async def activate(self, task: str, digest: bytes, if_match: str | None = None) -> str | None:
        """Let frames of `task` that begin from now on use the prompt with these 8 bytes.

        The hex digest of the one before. if_match: tags, as in the header, one of which is the digest of the
        active one. PromptNotFound, InvalidRequest (of another task), StateChanged, StoreUnavailable: the old
        one stays.
        """
        return await self._counted(lambda: self._activate(task, digest, if_match))

    async def roll_back(self, task: str) -> str:
        """Let a task use the prompt again that it used before; the hex digest of the one it used until now.

        PromptNotFound: there is none, or it is gone; StoreUnavailable: nothing has changed.
        """
        return await self._counted(lambda: self._roll_back(task))

    async def give_up(self, digest: bytes, error: SplitcodecError) -> None:
        """Roll back because the first frames with this active prompt fail. Errors as for `roll_back`."""
        row = self._find(digest)
        if row is None or not row.active:
            return
        await self._thread.run(lambda: self._roll_back(row.task))
        self.ledger.note(row.task, digest.hex(), "failed", f"its first frames fail: {error}")
        self._metrics.prompt_swaps.labels("rolled_back").inc()
        if self.on_given_up is not None:
            self.on_given_up()

    async def retire(self, digest: bytes) -> None:
        """Forget a prompt that came later. PromptNotFound, PromptStateError (in use, or a pack's own)."""
        await self._thread.run(lambda: self._retire(digest))

    def holds(self, digest: bytes) -> bool:
        """Whether the prompt with these 8 bytes is live."""
        return self._find(digest) is not None

    def active(self, task: str) -> bytes | None:
        """The 8 bytes of the active prompt of a task."""
        rows = [row for row in self._codec.prompts.list() if row.active and row.task == task]
        return wire_digest(rows[0].digest) if rows else None

    def close(self, patience_s: float) -> None:
        """Finish the change in work and end the thread; see Worker.close."""
        self._thread.close(patience_s)

    async def _counted(self, change: Callable[[], T]) -> T:
        try:
            done = await self._thread.run(change)
        except SplitcodecError as error:
            self._metrics.prompt_swaps.labels(type(error).__name__).inc()
            raise
        self._metrics.prompt_swaps.labels("ok").inc()
        return done

    def _load(self, place: Path, trust: TrustStore | None) -> PromptPack:
        return load_prompt_pack(place, {self._codec.codec_digest: self._codec.section}, trust)

    def _stage(self, place: Path) -> str:
        named = named_in(place)
        if named is None or self.holds(wire_digest(named[1])):
            return self._take(place)
        with self.ledger.arriving(named[0], named[1][:16]):
            return self._take(place)

    def _take(self, place: Path) -> str:
        with self.ledger.working("verify"):
            pack = self._load(place, self._trust)
        digest = pack.prompt.digest
        if digest not in self._own and digest not in self._arrived:
            self.ledger.note(pack.prompt.task, digest[:16], "verified")
            with self.ledger.working("warm"):
                self._warm_and_stage(pack)
            try:
                with self.ledger.working("store"):
                    self.shelf.put(place, digest)
            except SplitcodecError:
                self._codec.prompts.retire(digest)
                raise
            self._arrived.append(digest)
        if self._trust is not None:
            self._trust.remember(pack.signer)
        self._show()
        return digest

    def _warm_and_stage(self, pack: PromptPack) -> None:
        """Runs the largest canvas, empty, first; the exact branch of this machine is checked on the way."""
        prompt, section = pack.prompt, pack.manifest.section
        size = (section.input.height, section.input.width)
        try:
            self._codec.encoder.compress(np.full((*size, 3), section.input.fill, np.uint8), prompt, 0.0, size)
        except (GraphFailed, SigmaIndexMismatch) as error:
            raise InvalidPrompt(
                f"prompt {prompt.digest[:16]} of task {prompt.task} does not run here ({error}); the prompts "
                "in use stay"
            ) from error
        points = pack.manifest.rate_points(self._codec.section)
        self._codec.inputs[prompt.digest] = TaskInput(section.input, section.labels, points)
        self._codec.prompts.stage(prompt)

    def _activate(self, task: str, digest: bytes, if_match: str | None) -> str | None:
        row = self._held(digest)
        if row.task != task:
            raise InvalidRequest(
                f"prompt {digest.hex()} is of task {row.task!r}, not of {task!r}; name the task it is of"
            )
        now = self.active(task)
        etag = "" if now is None else now.hex()
        check_match(if_match, etag, f"the active prompt of task {task}", f"is {etag}")
        codec = wire_digest(self._codec.codec_digest)
        if now is not None and now != digest:
            self.shelf.save_previous({**self.shelf.previous(), (codec, task): now})
        live = self._codec.prompts.list()
        active = {(codec, one.task): wire_digest(one.digest) for one in live if one.active}
        with self.ledger.working("switch"):
            self.shelf.save_active({**active, (codec, task): digest})
            before = self._codec.prompts.activate(row.digest)
        if now not in (None, digest):
            self.probation.begin(digest)
        self._forget_the_oldest()
        self._show()
        return before

    def _roll_back(self, task: str) -> str:
        digest = self.shelf.previous().get((wire_digest(self._codec.codec_digest), task))
        now = self.active(task)
        if digest is None or now is None or digest == now or not self.holds(digest):
            raise PromptNotFound(
                f"task {task[:64]!r} has no earlier prompt here to go back to; take one of GET /v1/prompts"
            )
        log.warning("task %s goes back from prompt %s to %s", task, now.hex(), digest.hex())
        self._activate(task, digest, None)
        return now.hex()

    def _retire(self, digest: bytes) -> None:
        row = self._held(digest)
        if row.digest not in self._arrived:
            raise PromptStateError(
                f"prompt {digest.hex()} came with pack {self._codec.pack} and stays with it; only those that "
                "came later can be retired"
            )
        if digest in self._pinned():
            raise PromptStateError(
                f"prompt {digest.hex()} is what a camera keeps to; tell that camera to use another one first "
                "(GET /v1/cameras)"
            )
        self._forget(row)
        self._show()

    def _forget_the_oldest(self) -> None:
        """Hold the limit on packs that no task uses."""
        rows = {row.digest: row for row in self._codec.prompts.list()}
        pinned = self._pinned()
        unused = [rows[digest] for digest in self._arrived if not rows[digest].active]
        previous = set(self.shelf.previous().values())
        idle = [row for row in unused if wire_digest(row.digest) not in pinned]
        idle.sort(key=lambda row: wire_digest(row.digest) in previous)  # the way back goes last
        for row in idle[: max(0, len(idle) - self._kept)]:
            self._forget(row)

    def _forget(self, row: PromptStatus) -> None:
        self._arrived.remove(row.digest)
        self.ledger.note(row.task, row.digest[:16], "draining")
        self._codec.prompts.retire(row.digest)
        self.shelf.remove(row.digest)

    def _gone(self, prompt: Prompt) -> None:
        """The last frame that held a retired prompt is coded; in whatever thread that was."""
        self.ledger.note(prompt.task, prompt.digest[:16], "retired")

    def _find(self, digest: bytes) -> PromptStatus | None:
        rows = self._codec.prompts.list()
        return next((row for row in rows if wire_digest(row.digest) == digest and not row.retiring), None)

    def _held(self, digest: bytes) -> PromptStatus:
        row = self._find(digest)
        if row is None:
            held = ", ".join(f"{one.digest[:16]} ({one.task})" for one in self._codec.prompts.list())
            raise PromptNotFound(f"no prompt {digest.hex()} is here; this edge holds {held}: upload it first")
        return row

    def _show(self) -> None:
        """The inputs, the metrics and the curves of rate control follow the prompts.

        A prompt that is still leased is still listed, so a frame always finds the inputs of its prompt.
        """
        rows = self._codec.prompts.list()
        for gone in set(self._codec.inputs) - {row.digest for row in rows}:
            del self._codec.inputs[gone]
        for row in rows:
            if not row.retiring:
                self.ledger.note(row.task, row.digest[:16], "active" if row.active else "warm")
            points = self._codec.inputs[row.digest].points
            if row.active:
                self.points[row.task] = points
            else:
                self.points.setdefault(row.task, points)  # a camera may be pinned to a prompt of it

"""The prompts of a running cloud: published, activated, retired, watched, fetched; kept over restarts.

Changes happen one after another in one thread, so frames and other calls go on meanwhile. Each change is
verified and warmed first, then on the disk, then live; a failure on the way leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from cloud.draining import Draining, DrainTimer
from cloud.metrics import CloudMetrics
from cloud.runner import FrameRunner, PromptHost, ServedPrompt
from cloud.way_back import Change, earlier_prompt
from splitcodec.errors import (
    InvalidRequest,
    PromptNotFound,
    PromptStateError,
    ServiceStopping,
    SplitcodecError,
    TooManyPrompts,
)
from splitcodec.packs.digest import wire_digest
from splitcodec.packs.prompt_pack import load_prompt_pack, named_in
from splitcodec.packs.shelf import PromptShelf
from splitcodec.prompt_ledger import PromptLedger, PromptState
from splitcodec.prompt_probation import Probation
from splitcodec.signing.trust import TrustStore
from splitcodec.threads import shut

log = logging.getLogger(__name__)
Value = TypeVar("Value")


class PromptCatalogue:
    """Its coroutines belong to one event loop."""

    def __init__(
        self,
        runner: FrameRunner,
        shelf: PromptShelf,
        metrics: CloudMetrics,
        max_published: int,
        trust: TrustStore | None,
        draining: Draining,
    ) -> None:
        """trust: whose signatures count; None where no signature is asked for; draining: what is to go."""
        self._runner = runner
        self._shelf = shelf
        self._metrics = metrics
        self._max_published = max_published
        self._trust = trust
        self._draining = draining
        self._timer = DrainTimer(draining, lambda: self._in_turn(self._end_drains))
        self._published: dict[bytes, str] = {}
        self.ledger = PromptLedger(metrics)
        self.probation = Probation()
        self._changed = asyncio.Event()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._unfinished: set[Future[Any]] = set()

    async def open(self) -> None:
        """Bring back what was published and activated before a restart; what no longer works is logged."""
        await self._in_turn(self._restore)

    def prompts(self) -> tuple[ServedPrompt, ...]:
        """Every prompt served now, sorted by task and digest."""
        return self._runner.prompts()

    async def publish(self, place: Path, activate: bool) -> Change:
        """Take the prompt pack at `place`, which is moved away; it is served when this returns.

        SignatureError, PackMismatch, the PackError and PromptError families, TooManyPrompts,
        StoreUnavailable: nothing has changed.
        """
        return await self._in_turn(lambda: self._publish(place, activate))

    async def activate(self, task: str, prompt_digest: bytes) -> Change:
        """Make a prompt the one that edges use. PromptNotFound, InvalidRequest (of another task)."""
        return await self._in_turn(lambda: self._activate(task, prompt_digest))

    async def roll_back(self, task: str, codec_digest: bytes = b"") -> Change:
        """Make the prompt active again that was so before; codec_digest: where a task has several codecs.

        PromptNotFound: there is none, or it is gone; InvalidRequest: the codec must be named.
        """
        return await self._in_turn(lambda: self._roll_back(task, codec_digest))

    async def retire(self, prompt_digest: bytes, now: bool = False) -> float:
        """Let a published prompt go when its frames have had time to come; now: at once.

        Unix seconds at which it goes, 0 if it is gone. PromptNotFound, PromptStateError (active, or came with
        a pack).
        """
        return await self._in_turn(lambda: self._retire(prompt_digest, now))

    async def fetch(self, prompt_digest: bytes) -> bytes:
        """The prompt pack of a prompt. PromptNotFound."""
        return await self._in_turn(lambda: self._fetch(prompt_digest))

    async def watch(self) -> AsyncIterator[tuple[ServedPrompt, ...]]:
        """All prompts now, and again after each change. ServiceStopping when the service ends."""
        while True:
            changed = self._changed
            yield self.prompts()
            await changed.wait()
            if self._stopping:
                raise ServiceStopping("the service is stopping; connect again in a moment")

    def end_watchers(self) -> None:
        """Wake everyone who watches; they end with ServiceStopping."""
        self._stopping = True
        self._wake()

    async def close(self, patience_s: float) -> None:
        """Give the change in work patience_s seconds, drop those that wait, and end the thread."""
        self._timer.stop()
        await asyncio.to_thread(shut, self._thread, list(self._unfinished), patience_s)

    async def _in_turn(self, change: Callable[[], Value]) -> Value:
        """Run a change in the thread; one whose caller went away is finished all the same."""
        work = self._thread.submit(change)
        self._unfinished.add(work)
        work.add_done_callback(self._unfinished.discard)
        return await asyncio.wrap_future(work)

    def _publish(self, place: Path, activate: bool) -> Change:
        named = named_in(place)
        if named is None or self._find(wire_digest(named[1])) is not None:
            digest = self._take(place)
        else:
            with self.ledger.arriving(named[0], named[1][:16]):
                digest = self._take(place)
        prompt = self._served(digest)
        change = self._activate(prompt.task, digest) if activate else Change(prompt, b"")
        self._announce()
        return change

    def _take(self, place: Path) -> bytes:
        """Serve the prompt of a pack from now on; its 8 bytes."""
        host = self._host()
        with self.ledger.working("verify"):
            pack = load_prompt_pack(place, host.codecs(), self._trust)
        codec, digest = bytes.fromhex(pack.manifest.codec_digest)[:8], pack.prompt.wire_digest
        if self._find(digest) is None:
            self._check_places()
            self.ledger.note(pack.manifest.task, digest.hex(), "verified")
            with self.ledger.working("warm"):
                host.stage(pack)
            try:
                with self.ledger.working("store"):
                    self._shelf.put(place, pack.prompt.digest)
            except SplitcodecError:
                host.retire(codec, digest)
                raise
            self._published[digest] = pack.prompt.digest
        else:
            host.stage(pack)  # refuses it if it says something else of the same prompt
            self._draining.end(digest)
        if self._trust is not None:
            self._trust.remember(pack.signer)
        return digest

    def _activate(self, task: str, digest: bytes) -> Change:
        try:
            change = self._switch(task, digest)
        except SplitcodecError as error:
            self._metrics.prompt_swaps.labels(type(error).__name__).inc()
            raise
        self._metrics.prompt_swaps.labels("ok").inc()
        self._announce()
        return change

    def _switch(self, task: str, digest: bytes) -> Change:
        host, prompt = self._host(), self._served(digest)
        if prompt.task != task:
            raise InvalidRequest(
                f"prompt {digest.hex()} is of task {prompt.task!r}, not of {task!r}; name the task it is of"
            )
        active = {(one.codec_digest, one.task): one.prompt_digest for one in self.prompts() if one.active}
        before = active.get((prompt.codec_digest, task))
        with self.ledger.working("switch"):
            if before not in (None, digest):
                self._shelf.save_previous({**self._shelf.previous(), (prompt.codec_digest, task): before})
            self._draining.end(digest)
            self._shelf.save_active({**active, (prompt.codec_digest, task): digest})
            replaced = host.activate(prompt.codec_digest, digest)
        if replaced not in (b"", digest):
            self.probation.begin(digest)
        return Change(self._served(digest), replaced)

    def _roll_back(self, task: str, codec: bytes) -> Change:
        earlier = earlier_prompt(self._shelf.previous(), self.prompts(), task, codec)
        return self._activate(task, earlier)

    def _retire(self, digest: bytes, now: bool) -> float:
        host, prompt = self._host(), self._served(digest)
        if not prompt.published:
            raise PromptStateError(
                f"prompt {digest.hex()} came with pack {prompt.pack} and stays with it; only published ones "
                "can be retired"
            )
        if prompt.active:
            raise PromptStateError(
                f"prompt {digest.hex()} is active for {prompt.task}; activate another one first"
            )
        until = 0.0 if now else self._draining.begin(digest)
        if now or digest in self._draining.over():
            self._remove(host, prompt)
            until = 0.0
        self._announce()
        return until

    def _remove(self, host: PromptHost, prompt: ServedPrompt) -> None:
        host.retire(prompt.codec_digest, prompt.prompt_digest)
        self._shelf.remove(self._published.pop(prompt.prompt_digest))
        self._draining.end(prompt.prompt_digest)
        self.ledger.note(prompt.task, prompt.prompt_digest.hex(), "retired")

    def _end_drains(self) -> None:
        for digest in self._draining.over():
            prompt = self._find(digest)
            if prompt is None or not prompt.published or prompt.active:
                self._draining.end(digest)
            else:
                self._remove(self._host(), prompt)
        self._announce()

    def _fetch(self, digest: bytes) -> bytes:
        published = self._published.get(digest)
        return self._host().cut(digest) if published is None else self._shelf.place(published).read_bytes()

    def _restore(self) -> None:
        host = self._runner
        if isinstance(host, PromptHost):
            for place in self._shelf.places():
                self._restore_one(host, place)
            for (codec, task), digest in self._shelf.active().items():
                try:
                    host.activate(codec, digest)
                except SplitcodecError as error:
                    log.error("task %s starts with the prompt of its pack: %s", task, error)
        self._announce()

    def _restore_one(self, host: PromptHost, place: Path) -> None:
        try:
            trust = None if self._trust is None else self._trust.without_memory()
            pack = load_prompt_pack(place, host.codecs(), trust)
            host.stage(pack)
        except SplitcodecError as error:
            log.error("a published prompt is not served: %s", error)
        else:
            self._published[pack.prompt.wire_digest] = pack.prompt.digest

    def _check_places(self) -> None:
        if len(self._published) >= self._max_published:
            raise TooManyPrompts(
                f"{len(self._published)} published prompts are held, the limit is {self._max_published}; "
                "retire one, or raise max_published_prompts"
            )

    def _host(self) -> PromptHost:
        if not isinstance(self._runner, PromptHost):
            raise PromptStateError(
                "this cloud's networks do not take prompts while they run; deploy the pack that has them"
            )
        return self._runner

    def _find(self, digest: bytes) -> ServedPrompt | None:
        return next((prompt for prompt in self.prompts() if prompt.prompt_digest == digest), None)

    def _served(self, digest: bytes) -> ServedPrompt:
        prompt = self._find(digest)
        if prompt is None:
            held = ", ".join(f"{one.prompt_digest.hex()} ({one.task})" for one in self.prompts())
            raise PromptNotFound(
                f"no prompt {digest.hex()} is here; this cloud holds {held}: publish it first"
            )
        return prompt

    def _announce(self) -> None:
        """Show the prompts in the metrics and wake the watchers; runs in the thread."""
        for prompt in self.prompts():
            idle: PromptState = "draining" if prompt.prompt_digest in self._draining else "warm"
            state: PromptState = "active" if prompt.active else idle
            self.ledger.note(prompt.task, prompt.prompt_digest.hex(), state)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)
            self._loop.call_soon_threadsafe(self._timer.plan)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

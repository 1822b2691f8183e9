"""Follows the prompts of the cloud: what the cloud activates is fetched, checked, warmed, and used here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import grpc
import grpc.aio
from prometheus_client import Counter

from edge.cloud_link import CloudLink
from edge.prompts import EdgePrompts
from splitcodec.background import keep_going
from splitcodec.errors import CloudUnavailable, PackDamaged, PackTooLarge, SplitcodecError
from splitcodec.prompt_ledger import PromptRecord
from splitcodec.texts import shortened
from splitcodec.wire.v1 import prompts_pb2, prompts_pb2_grpc

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
FETCH_TIMEOUT_S: Final = 600.0
CONFIRM_TIMEOUT_S: Final = 10.0
MAX_TEXT: Final = 300  # characters of what the cloud says, in the log
FetchCall: TypeAlias = (
    "grpc.aio.UnaryStreamCall[prompts_pb2.FetchPromptRequest, prompts_pb2.FetchPromptResponse]"
)


@dataclass(frozen=True)
class CloudPrompt:
    """A prompt that the cloud holds; digests: 8 bytes; active: edges with this codec should use it."""

    task: str
    codec_digest: bytes
    prompt_digest: bytes
    active: bool


class PromptSource(Protocol):
    """Where prompts come from."""

    def watch(self) -> AsyncGenerator[Sequence[CloudPrompt], None]:
        """All prompts, and again after each change. CloudUnavailable: the connection has ended."""
        ...

    async def fetch(self, prompt_digest: bytes, place: Path, max_bytes: int) -> None:
        """Write a prompt pack to `place`. CloudUnavailable (damage on the way too), PackTooLarge."""
        ...

    async def confirm(self, device: str, codec_digest: bytes, records: Sequence[PromptRecord]) -> None:
        """Tell in which state this device's prompts are. CloudUnavailable."""
        ...


class GrpcPromptSource:
    """The Prompts service of the cloud at the other end of a link."""

    def __init__(self, link: CloudLink) -> None:
        self._link = link

    async def watch(self) -> AsyncGenerator[Sequence[CloudPrompt], None]:
        """See PromptSource."""
        async with self._link.channel() as channel:
            call = _prompts(channel).Watch(
                prompts_pb2.WatchPromptsRequest(), wait_for_ready=True, metadata=self._link.metadata()
            )
            try:
                async for response in call:
                    yield [
                        CloudPrompt(one.task, one.codec_digest, one.prompt_digest, one.active)
                        for one in response.prompts
                    ]
            except grpc.aio.AioRpcError as error:
                raise _away(error, self._link.place) from error
            finally:
                call.cancel()

    async def fetch(self, prompt_digest: bytes, place: Path, max_bytes: int) -> None:
        """See PromptSource."""
        async with self._link.channel() as channel:
            request = prompts_pb2.FetchPromptRequest(prompt_digest=prompt_digest)
            call = _prompts(channel).Fetch(request, timeout=FETCH_TIMEOUT_S, metadata=self._link.metadata())
            try:
                await _write(call, prompt_digest, place, max_bytes)
            except grpc.aio.AioRpcError as error:
                raise _away(error, self._link.place) from error

    async def confirm(self, device: str, codec_digest: bytes, records: Sequence[PromptRecord]) -> None:
        """See PromptSource."""
        told = prompts_pb2.DevicePrompts(
            device=device, codec_digest=codec_digest, records=[one.message() for one in records]
        )
        request = prompts_pb2.ConfirmPromptsRequest(prompts=told)
        async with self._link.channel() as channel:
            try:
                await _prompts(channel).Confirm(
                    request, timeout=CONFIRM_TIMEOUT_S, metadata=self._link.metadata()
                )
            except grpc.aio.AioRpcError as error:
                raise _away(error, self._link.place) from error


def _prompts(channel: grpc.aio.Channel) -> prompts_pb2_grpc.PromptsStub:
    return prompts_pb2_grpc.PromptsStub(channel)  # type: ignore[no-untyped-call]


async def _write(call: FetchCall, prompt_digest: bytes, place: Path, max_bytes: int) -> None:
    """The chunks of a call to `place`. PackTooLarge, CloudUnavailable (damaged on the way), AioRpcError."""
    size, announced, sha256, found = 0, 0, b"", hashlib.sha256()
    try:
        with place.open("wb") as file:
            async for part in call:
                announced, size = announced or part.size, size + len(part.chunk)
                sha256 = sha256 or part.sha256
                found.update(part.chunk)
                if max(size, announced) > max_bytes:
                    raise PackTooLarge(
                        f"prompt {prompt_digest.hex()} has {max(size, announced)} bytes, the limit is "
                        f"{max_bytes}; raise SPLITCODEC_EDGE_MAX_PROMPT_BYTES if that is meant"
                    )
                await asyncio.to_thread(file.write, part.chunk)
    finally:
        call.cancel()
    if size != announced or not size or sha256 not in (b"", found.digest()):
        raise CloudUnavailable(
            f"prompt {prompt_digest.hex()} was damaged on the way, {size} of {announced} bytes came; use TLS"
        )


class PromptFollower:
    """Brings this edge's prompts to what the cloud says, one after another, for as long as it runs."""

    def __init__(
        self, prompts: EdgePrompts, source: PromptSource, device: str, codec_digest: bytes, max_bytes: int
    ) -> None:
        """codec_digest: 8 bytes; max_bytes: of one prompt pack."""
        self._device = device
        self._prompts = prompts
        self._source = source
        self._codec_digest = codec_digest
        self._max_bytes = max_bytes
        self._refused: set[bytes] = set()  # not fetched again before the next start
        self._pause_s = 0.0
        self._confirming: set[asyncio.Task[None]] = set()
        prompts.on_given_up = self.confirm_soon

    async def turn(self) -> None:
        """The pause that is due, and one connection, followed until it ends."""
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        try:
            async with contextlib.aclosing(self._source.watch()) as states:
                async for state in states:
                    await self.apply(state)
                    self._pause_s = FIRST_PAUSE_S
                    await self._confirm()
        except CloudUnavailable as error:
            why, pause = error, self._pause_s
            log.info("the prompts of the cloud are not watched (%s); next try in %.0f s", why, pause)

    async def apply(self, state: Sequence[CloudPrompt]) -> None:
        """Use what the cloud uses; a prompt that cannot be used here leaves the one before it in use."""
        for prompt in state:
            if not prompt.active or prompt.codec_digest != self._codec_digest:
                continue
            if prompt.prompt_digest in (self._prompts.active(prompt.task), *self._refused):
                continue
            if self._prompts.ledger.has_failed(prompt.prompt_digest.hex()):  # given up, or by hand
                continue
            try:
                if not self._prompts.holds(prompt.prompt_digest):
                    await self._fetch(prompt)
                await self._prompts.activate(prompt.task, prompt.prompt_digest)
            except CloudUnavailable:
                raise
            except SplitcodecError as error:
                self._refused.add(prompt.prompt_digest)
                name = prompt.prompt_digest.hex()
                log.error("prompt %s of task %s is not used here: %s", name, prompt.task, error)
                if not self._prompts.holds(prompt.prompt_digest):
                    self._prompts.ledger.note(prompt.task, name, "failed", str(error))

    def confirm_soon(self) -> None:
        """Tell the cloud without its having changed anything."""
        task = asyncio.get_running_loop().create_task(self._confirm())
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    async def _confirm(self) -> None:
        """A cloud that does not listen, as older ones, loses nothing but this."""
        try:
            records = self._prompts.ledger.records()
            await self._source.confirm(self._device, self._codec_digest, records)
        except CloudUnavailable as error:
            log.info("the state of this edge's prompts is not told: %s", error)

    async def _fetch(self, prompt: CloudPrompt) -> None:
        with self._prompts.shelf.draft() as draft:
            with self._prompts.ledger.working("fetch"):
                await self._source.fetch(prompt.prompt_digest, draft, self._max_bytes)
            digest = await self._prompts.stage(draft)
        if bytes.fromhex(digest)[:8] != prompt.prompt_digest:
            raise PackDamaged(f"the cloud sent prompt {digest[:16]} for {prompt.prompt_digest.hex()}")


@asynccontextmanager
async def following(follower: PromptFollower, failures: Counter) -> AsyncIterator[None]:
    """Follow the cloud until the block ends; failures: see keep_going."""
    task = asyncio.create_task(keep_going("prompts", follower.turn, 0, failures))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _away(error: grpc.aio.AioRpcError, place: str) -> CloudUnavailable:
    details = shortened(error.details() or "no details", MAX_TEXT)
    return CloudUnavailable(f"the cloud at {place}: {error.code().name}: {details}")

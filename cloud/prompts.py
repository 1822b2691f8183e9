"""The Prompts service: what this cloud can decode, and how that changes while it runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from cloud.access import recheck
from cloud.catalogue import PromptCatalogue
from cloud.followers import Followers
from cloud.metrics import CloudMetrics
from cloud.runner import ServedPrompt
from cloud.status import refusing
from cloud.way_back import Change
from splitcodec.errors import DeadlineExceeded, InvalidRequest, PackDamaged, PackTooLarge, QueueFull
from splitcodec.packs.shelf import PromptShelf
from splitcodec.wire.v1 import prompts_pb2 as wire
from splitcodec.wire.v1.prompts_pb2_grpc import PromptsServicer as PromptsBase

CHUNK_BYTES: Final = 2**20
_LENGTH: Final = {"prompt_digest": 8, "codec_digest": 8, "sha256": 32}

ListContext: TypeAlias = "grpc.aio.ServicerContext[wire.ListPromptsRequest, wire.ListPromptsResponse]"
PublishContext: TypeAlias = "grpc.aio.ServicerContext[wire.PublishPromptRequest, wire.PublishPromptResponse]"
ActivateContext: TypeAlias = (
    "grpc.aio.ServicerContext[wire.ActivatePromptRequest, wire.ActivatePromptResponse]"
)
RollbackContext: TypeAlias = (
    "grpc.aio.ServicerContext[wire.RollbackPromptRequest, wire.ActivatePromptResponse]"
)
RetireContext: TypeAlias = "grpc.aio.ServicerContext[wire.RetirePromptRequest, wire.RetirePromptResponse]"
WatchContext: TypeAlias = "grpc.aio.ServicerContext[wire.WatchPromptsRequest, wire.WatchPromptsResponse]"
ConfirmContext: TypeAlias = (
    "grpc.aio.ServicerContext[wire.ConfirmPromptsRequest, wire.ConfirmPromptsResponse]"
)
DevicesContext: TypeAlias = (
    "grpc.aio.ServicerContext[wire.ListPromptDevicesRequest, wire.ListPromptDevicesResponse]"
)
FetchContext: TypeAlias = "grpc.aio.ServicerContext[wire.FetchPromptRequest, wire.FetchPromptResponse]"


class PromptsServicer(PromptsBase):
    """See prompts.proto. One prompt pack is received at a time."""

    def __init__(
        self,
        catalogue: PromptCatalogue,
        shelf: PromptShelf,
        metrics: CloudMetrics,
        max_bytes: int,
        timeout_s: float,
    ) -> None:
        """max_bytes: of one prompt pack; timeout_s: seconds it may take to arrive."""
        self._catalogue = catalogue
        self._shelf = shelf
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._receiving = asyncio.Lock()
        self._followers = Followers()

    async def List(self, request: wire.ListPromptsRequest, context: ListContext) -> wire.ListPromptsResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            chosen = [one for one in self._catalogue.prompts() if request.task in ("", one.task)]
            records = [one for one in self._catalogue.ledger.records() if request.task in ("", one.task)]
            return wire.ListPromptsResponse(
                prompts=map(_message, chosen), records=[one.message() for one in records]
            )

    async def Publish(
        self, request_iterator: AsyncIterator[wire.PublishPromptRequest], context: PublishContext
    ) -> wire.PublishPromptResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            change = await self._publish(request_iterator)
            return wire.PublishPromptResponse(prompt=_message(change.prompt), replaced_digest=change.replaced)

    async def Activate(
        self, request: wire.ActivatePromptRequest, context: ActivateContext
    ) -> wire.ActivatePromptResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            digest = _digest("prompt_digest", request.prompt_digest)
            change = await self._catalogue.activate(request.task, digest)
            return wire.ActivatePromptResponse(
                prompt=_message(change.prompt), replaced_digest=change.replaced
            )

    async def Rollback(
        self, request: wire.RollbackPromptRequest, context: RollbackContext
    ) -> wire.ActivatePromptResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            codec = _digest("codec_digest", request.codec_digest) if request.codec_digest else b""
            change = await self._catalogue.roll_back(request.task, codec)
            return wire.ActivatePromptResponse(
                prompt=_message(change.prompt), replaced_digest=change.replaced
            )

    async def Retire(
        self, request: wire.RetirePromptRequest, context: RetireContext
    ) -> wire.RetirePromptResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            digest = _digest("prompt_digest", request.prompt_digest)
            until = await self._catalogue.retire(digest, request.now)
            return wire.RetirePromptResponse(gone_at_unix_nanos=int(until * 1e9))

    async def Watch(
        self, request: wire.WatchPromptsRequest, context: WatchContext
    ) -> AsyncIterator[wire.WatchPromptsResponse]:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            async for prompts in self._catalogue.watch():
                recheck()
                yield wire.WatchPromptsResponse(prompts=map(_message, prompts))

    async def Fetch(
        self, request: wire.FetchPromptRequest, context: FetchContext
    ) -> AsyncIterator[wire.FetchPromptResponse]:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            data = await self._catalogue.fetch(_digest("prompt_digest", request.prompt_digest))
            found = hashlib.sha256(data).digest()
            yield wire.FetchPromptResponse(size=len(data), sha256=found, chunk=data[:CHUNK_BYTES])
            for start in range(CHUNK_BYTES, len(data), CHUNK_BYTES):
                yield wire.FetchPromptResponse(chunk=data[start : start + CHUNK_BYTES])

    async def Confirm(
        self, request: wire.ConfirmPromptsRequest, context: ConfirmContext
    ) -> wire.ConfirmPromptsResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            self._followers.confirm(request.prompts)
            return wire.ConfirmPromptsResponse()

    async def ListDevices(
        self, request: wire.ListPromptDevicesRequest, context: DevicesContext
    ) -> wire.ListPromptDevicesResponse:
        """See prompts.proto."""
        async with refusing(context, self._metrics):
            return wire.ListPromptDevicesResponse(devices=self._followers.devices())

    async def _publish(self, parts: AsyncIterator[wire.PublishPromptRequest]) -> Change:
        if self._receiving.locked():
            raise QueueFull("another prompt pack is arriving; publish one at a time, try again in a moment")
        async with self._receiving:
            with self._shelf.draft() as draft:
                try:
                    activate = await asyncio.wait_for(self._receive(parts, draft), self._timeout_s)
                except asyncio.TimeoutError:
                    raise DeadlineExceeded(
                        f"the prompt pack did not arrive within {self._timeout_s:g} s; use a faster link"
                    ) from None
                return await self._catalogue.publish(draft, activate)

    async def _receive(self, parts: AsyncIterator[wire.PublishPromptRequest], draft: Path) -> bool:
        """Write the pack to `draft`, never more than it may have; whether it is to be activated."""
        header, found, size = None, hashlib.sha256(), 0
        with draft.open("wb") as file:
            async for part in parts:
                if header is None:
                    header = self._header(part)
                    continue
                size += len(part.chunk)
                if size > header.size or not part.chunk:
                    raise InvalidRequest(
                        f"a part brings the prompt pack to {size} bytes, its header says {header.size}; send "
                        "the header once, then exactly that many bytes"
                    )
                found.update(part.chunk)
                await asyncio.to_thread(file.write, part.chunk)
        if header is None or size != header.size or found.digest() != header.sha256:
            raise PackDamaged(
                f"{size} bytes of the prompt pack arrived, not the ones announced; send it again"
            )
        return header.activate

    def _header(self, part: wire.PublishPromptRequest) -> wire.PublishPromptHeader:
        if part.WhichOneof("part") != "header":
            raise InvalidRequest("the first part has no header; send size and sha256 before the bytes")
        _digest("sha256", part.header.sha256)
        if part.header.size > self._max_bytes:
            raise PackTooLarge(
                f"the prompt pack has {part.header.size} bytes, the limit is {self._max_bytes}; raise "
                "max_prompt_bytes if that is meant"
            )
        return part.header


def _digest(field: str, value: bytes) -> bytes:
    if len(value) != _LENGTH[field]:
        raise InvalidRequest(f"{field} has {len(value)} bytes, it must have {_LENGTH[field]}")
    return value


def _message(prompt: ServedPrompt) -> wire.Prompt:
    return wire.Prompt(
        task=prompt.task,
        pack=prompt.pack,
        codec_digest=prompt.codec_digest,
        prompt_digest=prompt.prompt_digest,
        rate_points=prompt.rate_points,
        input_height=prompt.input_height,
        input_width=prompt.input_width,
        labels=prompt.labels,
        active=prompt.active,
        published=prompt.published,
    )

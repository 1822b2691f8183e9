"""The operator's side of a cloud's prompts: publish a prompt pack, activate it, go back, retire it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from splitcodec.client import cloud_calls
from splitcodec.client.answers import CloudPrompt, DevicePrompts, PromptRecord
from splitcodec.client.cloud_blocking import CloudClient
from splitcodec.errors import InvalidRequest, PackNotFound
from splitcodec.wire.v1 import prompts_pb2

CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True)
class PromptChange:
    """A prompt after a change; replaced: digest, in hex, of the one that was active before, if any."""

    prompt: CloudPrompt
    replaced: str | None


class PromptAdmin(CloudClient):
    """A CloudClient that may change the prompts; its token needs the scope `prompts`. For any thread."""

    def __enter__(self) -> PromptAdmin:
        return self

    def publish(self, place: Path, *, activate: bool = False) -> PromptChange:
        """Send a prompt pack; the cloud serves it when this returns; its edges fetch it once it is active.

        PackNotFound: no file; and what the cloud says of it: PackMismatch, PackTooLarge, InvalidPrompt, ...
        """
        if not place.is_file():
            raise PackNotFound(f"there is no prompt pack at {place}; `splitcodec pack prompt` writes one")
        data = place.read_bytes()
        answer = self._run(
            lambda left: self._prompts.Publish(_parts(data, activate), timeout=left, metadata=self._metadata)
        )
        return _change(answer.prompt, answer.replaced_digest)

    def activate(self, task: str, prompt_digest: str) -> PromptChange:
        """Let edges use a prompt for its task from now on. PromptNotFound, InvalidRequest."""
        request = prompts_pb2.ActivatePromptRequest(task=task, prompt_digest=_digest(prompt_digest))
        answer = self._run(
            lambda left: self._prompts.Activate(request, timeout=left, metadata=self._metadata)
        )
        return _change(answer.prompt, answer.replaced_digest)

    def roll_back(self, task: str) -> PromptChange:
        """Let edges use the prompt again that was active before. PromptNotFound, InvalidRequest."""
        request = prompts_pb2.RollbackPromptRequest(task=task)
        answer = self._run(
            lambda left: self._prompts.Rollback(request, timeout=left, metadata=self._metadata)
        )
        return _change(answer.prompt, answer.replaced_digest)

    def states(self) -> tuple[PromptRecord, ...]:
        """The state of each prompt, oldest change first; of those that are gone, the last ones."""
        request = prompts_pb2.ListPromptsRequest()
        answer = self._run(lambda left: self._prompts.List(request, timeout=left, metadata=self._metadata))
        return tuple(map(_record, answer.records))

    def devices(self) -> tuple[DevicePrompts, ...]:
        """What the devices that follow this cloud said of their prompts, by name."""
        request = prompts_pb2.ListPromptDevicesRequest()
        answer = self._run(
            lambda left: self._prompts.ListDevices(request, timeout=left, metadata=self._metadata)
        )
        return tuple(
            DevicePrompts(
                one.device,
                one.codec_digest.hex(),
                tuple(map(_record, one.records)),
                one.told_unix_nanos / 1e9,
            )
            for one in answer.devices
        )

    def retire(self, prompt_digest: str, *, now: bool = False) -> datetime | None:
        """Let a published prompt go that is not active; now: without waiting for frames that still come.

        When it goes, None if it is gone. PromptNotFound, PromptStateError.
        """
        request = prompts_pb2.RetirePromptRequest(prompt_digest=_digest(prompt_digest), now=now)
        answer = self._run(lambda left: self._prompts.Retire(request, timeout=left, metadata=self._metadata))
        nanos = answer.gone_at_unix_nanos
        return datetime.fromtimestamp(nanos / 1e9, timezone.utc) if nanos else None


def _parts(data: bytes, activate: bool) -> Iterator[prompts_pb2.PublishPromptRequest]:
    header = prompts_pb2.PublishPromptHeader(
        size=len(data), sha256=hashlib.sha256(data).digest(), activate=activate
    )
    yield prompts_pb2.PublishPromptRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield prompts_pb2.PublishPromptRequest(chunk=data[start : start + CHUNK_BYTES])


def _digest(text: str) -> bytes:
    """The 8 bytes of a digest in hex, which may be given whole."""
    try:
        return bytes.fromhex(text)[:8]
    except ValueError:
        raise InvalidRequest(f"{text!r} is no digest in hex; `splitcodec prompt list` shows them") from None


def _record(record: prompts_pb2.PromptRecord) -> PromptRecord:
    since = record.since_unix_nanos / 1e9
    return PromptRecord(record.task, record.prompt_digest.hex(), record.state, since, record.reason)


def _change(prompt: prompts_pb2.Prompt, replaced: bytes) -> PromptChange:
    return PromptChange(cloud_calls.cloud_prompt(prompt), replaced.hex() or None)

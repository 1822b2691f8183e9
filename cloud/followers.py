"""What the devices that follow this cloud's prompts said last of theirs; forgotten when the cloud ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cloud.devices import check_device
from cloud.messages import NAME
from splitcodec.errors import InvalidRequest
from splitcodec.wire.v1 import prompts_pb2 as wire

MAX_DEVICES: Final = 4096  # the ones heard last
MAX_RECORDS: Final = 1024  # of one device
DIGEST_BYTES: Final = 8


class Followers:
    """For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: unix time in seconds."""
        self._clock = clock
        self._told: dict[str, wire.DevicePrompts] = {}

    def confirm(self, prompts: wire.DevicePrompts) -> None:
        """A device's latest word. InvalidRequest; NotPermitted for another device's token."""
        if not NAME.fullmatch(prompts.device):
            raise InvalidRequest("device is no name; give letters, digits, dot, dash and underline alone")
        check_device(prompts.device)
        sizes = {len(prompts.codec_digest), *(len(record.prompt_digest) for record in prompts.records)}
        if sizes != {DIGEST_BYTES} or len(prompts.records) > MAX_RECORDS:
            raise InvalidRequest(
                f"{len(prompts.records)} records with digests of {sorted(sizes)} bytes; give at most "
                f"{MAX_RECORDS}, with digests of {DIGEST_BYTES}"
            )
        kept = wire.DevicePrompts()
        kept.CopyFrom(prompts)
        kept.told_unix_nanos = int(self._clock() * 1e9)
        self._told.pop(prompts.device, None)
        self._told[prompts.device] = kept
        while len(self._told) > MAX_DEVICES:
            del self._told[next(iter(self._told))]

    def devices(self) -> list[wire.DevicePrompts]:
        """By name."""
        return [self._told[name] for name in sorted(self._told)]

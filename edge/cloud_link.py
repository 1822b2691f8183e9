"""The connection to the cloud: one gRPC channel, made anew when its certificates change, and the token."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import grpc
import grpc.aio

from edge.settings import EdgeSettings
from splitcodec.certificates import stamp_or_none
from splitcodec.errors import SettingsError
from splitcodec.tokens import TOKEN
from splitcodec.wire.options import client_options
from splitcodec.wire.proxies import place_of

log = logging.getLogger(__name__)

Metadata: TypeAlias = tuple[tuple[str, str], ...]
_RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
MAX_TOKEN_FILE_BYTES: Final = 4096


@dataclass
class _Held:
    """A channel and how many calls use it; one that was replaced is closed by its last user."""

    channel: grpc.aio.Channel
    users: int = 0
    replaced: bool = False


class CloudLink:
    """For one event loop. Calls that run stay on the channel they began on."""

    def __init__(self, settings: EdgeSettings) -> None:
        """Begins to connect. SettingsError: a TLS file or the token file cannot be used."""
        self.place = place_of(settings.cloud_target, use_proxy=settings.use_proxy)
        """Where the cloud is, and the proxy on the way if there is one; for messages."""
        self._settings = settings
        self._files = (settings.cloud_ca, settings.cloud_cert, settings.cloud_key)
        self._token = "" if settings.cloud_token_file is None else read_token(settings.cloud_token_file)
        try:
            self._stamp = stamp_or_none(*self._files)
            self._held = self._open()
        except OSError as error:
            raise SettingsError(
                f"{error.filename} cannot be read ({error.strerror}); check the cloud_* files"
            ) from error

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """The channel for calls that begin now and end with the block."""
        await self._refresh()
        held = self._held
        held.users += 1
        try:
            yield held.channel
        finally:
            held.users -= 1
            if held.replaced and not held.users:
                await held.channel.close(None)

    def metadata(self) -> Metadata:
        """What a call must carry: the token that the file holds now; a file that went away keeps the last."""
        place = self._settings.cloud_token_file
        if place is None:
            return ()
        try:
            self._token = read_token(place)
        except SettingsError as error:
            log.error("%s; the token in use stays", error)
        return (("authorization", f"Bearer {self._token}"),)

    def state(self) -> str:
        """State of the connection: idle, connecting, ready, transient_failure or shutdown."""
        return self._held.channel.get_state(try_to_connect=True).name.lower()

    async def close(self) -> None:
        """Cancel running calls and close the channel."""
        await self._held.channel.close(None)

    async def _refresh(self) -> None:
        """A new channel if the certificate files changed; a half-written set keeps the old one."""
        stamp = stamp_or_none(*self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = self._open()
        except OSError as error:
            log.error("%s cannot be read (%s); the certificates in use stay", error.filename, error.strerror)
            return
        old, self._held = self._held, fresh
        log.info("certificates for the cloud were replaced")
        old.replaced = True
        if not old.users:
            await old.channel.close(None)

    def _open(self) -> _Held:
        """OSError: a file cannot be read."""
        ca, cert, key = (path.read_bytes() if path is not None else None for path in self._files)
        target, use_proxy = self._settings.cloud_target, self._settings.use_proxy
        options = (*client_options(target, use_proxy=use_proxy), *_RECONNECT)
        if ca is None:
            channel = grpc.aio.insecure_channel(target, options)
        else:
            credentials = grpc.ssl_channel_credentials(ca, key, cert)
            channel = grpc.aio.secure_channel(target, credentials, options)
        channel.get_state(try_to_connect=True)
        return _Held(channel)


def read_token(place: Path) -> str:
    """The bearer token in a file. SettingsError, which never repeats what the file holds."""
    try:
        with place.open("rb") as file:
            text = file.read(MAX_TOKEN_FILE_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise SettingsError(f"the token file {place} cannot be read: {error.strerror}") from error
    if not TOKEN.fullmatch(text):
        raise SettingsError(f"{place} holds no token; put the line of `splitcodec token new` there")
    return text

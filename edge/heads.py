"""A limit on the time of a request's head: half-sent ones would hold every connection there is."""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S: Final = 10.0


class TimedHeads(H11Protocol):
    """uvicorn's protocol, except that a connection is closed when a head is not whole HEAD_S seconds after it
    began; of the first request, after the connection did."""

    _due: asyncio.TimerHandle | None = None

    @property
    def waits_for_head(self) -> bool:
        """Whether the connection is closed if no head comes."""
        return self._due is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._due = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        in_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not in_head:
            self._forget()
        elif self._due is None:
            self._due = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._forget()

    def _forget(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

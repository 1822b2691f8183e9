"""An ASGI application on a real loopback port, in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn


@asynccontextmanager
async def serving(app: Any, port: int = 0, **options: Any) -> AsyncIterator[str]:
    """The base URL while the block runs."""
    listener = socket.create_server(("127.0.0.1", port))
    options = {"log_config": None, "lifespan": "off", "timeout_graceful_shutdown": 1, **options}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class _no_signals:
    """Signals stay with pytest."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Said:
    """One answer of a scripted server."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass
class Script:
    """An application that gives the answers in turn, the last one again and again; keeps what was asked."""

    answers: list[Said]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        self.asked.append((scope["method"], scope["path"] + (f"?{query}" if query else ""), headers, body))
        if self.hold is not None:
            await self.hold.wait()
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await send({"type": "http.response.start", "status": said.status, "headers": list(said.headers)})
        await send({"type": "http.response.body", "body": said.body})

"""The edge's HTTP interface as a fuzz target: raw requests, straight into the application."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import weakref
from collections.abc import Callable, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
EXPECTED: Final = frozenset(
    {200, 202, 307, 400, 401, 403, 404, 405, 408, 411, 413, 415, 422, 429, 502, 503, 507}
)
MAX_PATH: Final = 512


def open_edge() -> Callable[[bytes], None]:
    """An edge on the tiny pack with a cloud that sees a cat; closed when nobody holds the function."""
    from edge_rig import edge_rig, tiny_codec

    loop = asyncio.new_event_loop()
    place = tempfile.TemporaryDirectory()
    stack = AsyncExitStack()
    rig = loop.run_until_complete(
        stack.enter_async_context(
            edge_rig(
                tiny_codec(Path(place.name)),
                Path(place.name) / "state",
                max_picture_bytes=1 << 20,
                max_picture_pixels=40_000,
            )
        )
    )
    app = rig.http._transport.app  # type: ignore[attr-defined]

    def close() -> None:
        loop.run_until_complete(stack.aclose())
        loop.close()
        place.cleanup()

    def one(data: bytes) -> None:
        """First line: METHOD PATH QUERY; the rest is the body."""
        head, _, body = data.partition(b"\n")
        status, answer = loop.run_until_complete(_call(app, head[:MAX_PATH], body))
        assert status in EXPECTED, f"{status}: {answer[:200]!r}"
        if status >= 400 and answer:
            assert json.loads(answer)["status"] == status

    # Not at the end of the process: no thread that the edge closes in can be started then.
    weakref.finalize(one, close).atexit = False
    return one


async def _call(app: Any, head: bytes, body: bytes) -> tuple[int, bytes]:
    method, path, query = ([*head.split(b" ", 2), b"", b""])[:3]
    name = method.decode("latin-1").upper()
    kind = b"image/jpeg" if not re.match(rb"\d", body) else b"application/octet-stream"
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": name if name in METHODS else "GET",
        "scheme": "http",
        "path": "/" + path.decode("utf-8", "replace").lstrip("/"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"edge"), (b"content-type", kind)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    status, parts = 0, []
    sent = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def receive() -> MutableMapping[str, Any]:
        return next(sent, {"type": "http.disconnect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)

"""Who may ask for what over HTTP, and how often. What is not in the table needs `admin`.

Decided on the path that the router matches, before the body is read; never on the request's URL, which a Host
header can bend.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from edge import problems
from edge.body import waits_for_consent
from splitcodec import tokens
from splitcodec.errors import AccessError, SplitcodecError, TooManyRequests
from splitcodec.throttle import Throttle
from splitcodec.tokens import TokenBook

Scopes = tuple[tokens.Scope, ...]
_READ: Final[Scopes] = ("frames", "results", "prompts")
_GET: Final = ("GET", "HEAD")
ROUTES: Final[tuple[tuple[tuple[str, ...], str, Scopes | None], ...]] = (
    (_GET, r"/healthz|/readyz", None),
    (_GET, r"/|/page/[^/]+|/favicon\.ico", None),
    (_GET, r"/docs|/openapi\.json", None),
    (_GET, r"/metrics", ("metrics",)),
    (("POST",), r"/v1/frames", ("frames",)),
    (_GET, r"/v1/frames|/v1/events|/v1/history|/v1/frames/[^/]+|/v1/frames/[^/]+/overlay\.jpg", ("results",)),
    (_GET, r"/v1/quarantine", ("results",)),
    (("POST",), r"/v1/quarantine/replay", ("frames",)),
    (_GET, r"/v1/prompts(/states)?|/v1/tasks/[^/]+/prompt|/v1/cameras|/v1/cameras/[^/]+/prompt", _READ),
    (("POST",), r"/v1/prompts", ("prompts",)),
    (("DELETE",), r"/v1/prompts/[^/]+", ("prompts",)),
    (("PUT", "DELETE"), r"/v1/cameras/[^/]+/prompt", ("prompts",)),
    (("PUT",), r"/v1/tasks/[^/]+/prompt", ("prompts",)),
    (("POST",), r"/v1/tasks/[^/]+/rollback", ("prompts",)),
)
"""Methods, path, and the scopes of which one opens it; None: open to everybody. The first match counts."""
NEVER_THROTTLED: Final = ("/healthz", "/readyz")
DISCARD_BYTES: Final = 4 * 2**20
DISCARD_S: Final = 2.0
"""So much of a refused body is read and dropped, so that its sender gets to read the refusal."""

_TABLE: Final = tuple((methods, re.compile(path), scopes) for methods, path, scopes in ROUTES)


def scopes_of(method: str, path: str) -> Scopes | None:
    """Scopes of which one opens a route, None for no token."""
    for methods, pattern, scopes in _TABLE:
        if method in methods and pattern.fullmatch(path):
            return scopes
    return ("admin",)


class Gate:
    """In front of the application: asks for a token where there is a book, and slows hasty callers down."""

    def __init__(
        self,
        app: ASGIApp,
        book: TokenBook | None,
        throttle: Throttle,
        refused: Counter,
        protect_metrics: bool,
    ) -> None:
        """book: None asks nobody; refused: counter by error class."""
        self._app = app
        self._book = book
        self._throttle = throttle
        self._refused = refused
        self._protect_metrics = protect_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # there is no web socket to protect
            await send({"type": "websocket.close", "code": 1008})
        elif (error := self._refusal(scope)) is None:
            await self._app(scope, receive, send)
        else:
            if isinstance(error, AccessError):
                self._refused.labels(type(error).__name__).inc()
            if not waits_for_consent(scope):
                await _discard(receive)
            await problems.response_to(error, scope)(scope, receive, send)

    def _refusal(self, scope: Scope) -> SplitcodecError | None:
        """Why the request may not pass."""
        path = scope["path"]
        if path in NEVER_THROTTLED:
            return None
        caller = f"address {scope['client'][0] if scope.get('client') else 'unknown'}"
        error: SplitcodecError | None = None
        if self._book is not None:
            needed = scopes_of(scope["method"], path)
            if path == "/metrics" and not self._protect_metrics:
                needed = None
            if needed is not None:
                try:
                    found = self._book.check(_authorization(scope))
                    caller = f"token {found.token_id}"
                    found.require(needed)
                except AccessError as refused:
                    error = refused
        wait_s = self._throttle.take(caller)
        if wait_s > 0:
            return TooManyRequests(f"{caller} asks too often; wait {wait_s:.2f} s")
        return error


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return bytes(value).decode("latin-1")
    return None


async def _discard(receive: Receive) -> None:
    """Read what is left of a small body."""

    async def drop() -> None:
        size = 0
        while size <= DISCARD_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(drop(), DISCARD_S)

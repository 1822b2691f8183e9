"""HTTP with a deadline: a call is tried until it succeeds, cannot succeed, or its time is up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final, TypedDict, TypeVar

import httpx

from splitcodec.client.credentials import Credentials
from splitcodec.client.edge_calls import Call
from splitcodec.client.failures import http_failure
from splitcodec.client.retry import Passing, Retry
from splitcodec.errors import DeadlineExceeded, EdgeRefused, EdgeUnavailable, SettingsError

T = TypeVar("T")
MAX_ANSWER_BYTES: Final = 64 * 2**20
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Exchange:
    """What the two clients share: the address, and what a response or a broken connection means."""

    def __init__(self, url: str, credentials: Credentials, retry: Retry) -> None:
        """SettingsError: no usable URL, or credentials that do not fit it."""
        try:
            self.url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"{url!r} is no URL ({error}); give http://host:port") from error
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise SettingsError(
                f"{url!r} is no address of an edge; give http://host:port or https://host:port"
            )
        credentials.check_address(self.url.host, encrypted=self.url.scheme == "https")
        self.retry = retry
        self.verify = credentials.ssl_context() if self.url.scheme == "https" else True
        self.headers = dict(credentials.metadata)

    def read(self, call: Call[T], response: httpx.Response, body: bytes) -> T:
        """The answer, or the error that the edge gave."""
        if response.is_success:
            return call.read(response.status_code, body)
        raise http_failure(
            f"{call.method} {call.path}", response.status_code, response.headers.get("Retry-After"), body
        )

    def broken(self, call: Call[T], error: httpx.HTTPError) -> EdgeUnavailable | Passing:
        """A request without a response; Passing if it may be made again: harmless, or never sent."""
        text = f"{call.method} {self.address(call)}: {error or type(error).__name__}; is the edge there?"
        if call.repeatable or isinstance(error, _NEVER_SENT):
            return Passing(EdgeUnavailable(text))
        return EdgeUnavailable(f"{text} It may have been taken all the same: asking again could do it twice")

    def address(self, call: Call[T]) -> str:
        """The whole URL of a call, without its query."""
        return str(self.url).rstrip("/") + call.path


class AsyncExchange(Exchange):
    """For one event loop."""

    def __init__(self, url: str, credentials: Credentials, retry: Retry) -> None:
        """SettingsError: as for Exchange."""
        super().__init__(url, credentials, retry)
        self._http = httpx.AsyncClient(headers=self.headers, verify=self.verify, trust_env=False)

    async def run(self, call: Call[T], deadline_s: float) -> T:
        """The answer within deadline_s, retries included; else the edge's error, or a client's."""
        end = time.monotonic() + deadline_s
        try:
            return await self.retry.waiting(deadline_s)(self._attempt, call, end, deadline_s)
        except Passing as failure:
            raise failure.error from failure.__cause__

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _attempt(self, call: Call[T], end: float, deadline_s: float) -> T:
        try:
            return await asyncio.wait_for(self._once(call, end), _left(end))
        except (asyncio.TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            raise late(f"{call.method} {call.path}", deadline_s) from None

    async def _once(self, call: Call[T], end: float) -> T:
        request = self._http.build_request(
            call.method, self.address(call), timeout=_left(end), **_parts(call)
        )
        try:
            response = await self._http.send(request, stream=True)
            body = bytearray()
            try:
                async for piece in response.aiter_bytes():
                    _grow(body, piece)
            finally:
                await response.aclose()
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise
        except httpx.HTTPError as error:
            raise self.broken(call, error) from error
        return self.read(call, response, bytes(body))


class BlockingExchange(Exchange):
    """For any thread."""

    def __init__(self, url: str, credentials: Credentials, retry: Retry) -> None:
        """SettingsError: as for Exchange."""
        super().__init__(url, credentials, retry)
        self._http = httpx.Client(headers=self.headers, verify=self.verify, trust_env=False)

    def run(self, call: Call[T], deadline_s: float) -> T:
        """See AsyncExchange.run."""
        end = time.monotonic() + deadline_s
        try:
            return self.retry.blocking(deadline_s)(lambda: self._attempt(call, end, deadline_s))
        except Passing as failure:
            raise failure.error from failure.__cause__

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _attempt(self, call: Call[T], end: float, deadline_s: float) -> T:
        request = self._http.build_request(
            call.method, self.address(call), timeout=_left(end), **_parts(call)
        )
        try:
            response = self._http.send(request, stream=True)
            body = bytearray()
            try:
                for piece in response.iter_bytes():
                    _grow(body, piece)
                    if time.monotonic() > end:  # httpx's own timeouts begin anew with every piece
                        raise late(f"{call.method} {call.path}", deadline_s)
            finally:
                response.close()
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise late(f"{call.method} {call.path}", deadline_s) from None
        except httpx.HTTPError as error:
            raise self.broken(call, error) from error
        return self.read(call, response, bytes(body))


def late(what: str, deadline_s: float) -> DeadlineExceeded:
    """The error of a call whose time is up."""
    return DeadlineExceeded(f"{what}: no answer within {deadline_s:g} s; allow more time or look at the link")


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.001)


def _grow(body: bytearray, piece: bytes) -> None:
    body += piece
    if len(body) > MAX_ANSWER_BYTES:
        raise EdgeRefused(f"the answer has more than {MAX_ANSWER_BYTES} bytes, the limit; is this an edge?")


class _Parts(TypedDict):
    params: Mapping[str, str] | None
    content: bytes | None
    headers: dict[str, str]


def _parts(call: Call[T]) -> _Parts:
    headers = {} if call.content_type is None else {"Content-Type": call.content_type}
    return {"params": call.params, "content": call.body, "headers": {**headers, **call.headers}}

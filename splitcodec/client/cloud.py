"""The asyncio client of a cloud: one result, a history, or live."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio

from splitcodec.client import cloud_calls
from splitcodec.client.answers import CloudPrompt, StoredResult
from splitcodec.client.cloud_calls import Which
from splitcodec.client.credentials import Credentials
from splitcodec.client.failures import grpc_failure
from splitcodec.client.retry import Passing, Retry
from splitcodec.client.watching import Watching
from splitcodec.wire.proxies import place_of
from splitcodec.wire.v1 import prompts_pb2_grpc, results_pb2, results_pb2_grpc

T = TypeVar("T")
DEADLINE_S: Final = 10.0
_Call: TypeAlias = (
    "grpc.aio.UnaryStreamCall[results_pb2.WatchResultsRequest, results_pb2.WatchResultsResponse]"
)


class AsyncCloudClient:
    """`async with AsyncCloudClient("127.0.0.1:50051") as cloud: await cloud.get("box-1", "door", 7)`.

    Calls take at most deadline_s, retries included, and raise the cloud's own errors by their class in
    splitcodec.errors, CloudUnavailable without a connection, DeadlineExceeded when the time is up.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry: Retry | None = None,
        use_proxy: bool = False,
    ) -> None:
        """target: host:port; make it inside the event loop. SettingsError: unusable credentials.

        use_proxy: take the proxy of the environment for a cloud here or in a private network too.
        """
        login = credentials or Credentials()
        cloud_calls.check_target(target, login)
        secure = login.channel_credentials()
        options = cloud_calls.channel_options(target, use_proxy)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if secure is None
            else grpc.aio.secure_channel(target, secure, options)
        )
        self._results = results_pb2_grpc.ResultsStub(self._channel)  # type: ignore[no-untyped-call]
        self._prompts = prompts_pb2_grpc.PromptsStub(self._channel)  # type: ignore[no-untyped-call]
        self._target = place_of(target, use_proxy=use_proxy)
        self._metadata = login.metadata
        self._deadline_s = deadline_s
        self._retry = retry or Retry()

    async def __aenter__(self) -> AsyncCloudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every call and close the channel."""
        await self._channel.close(None)

    async def get(self, device: str, camera: str, seq: int) -> StoredResult:
        """The result of one frame. ResultNotFound: the cloud holds none."""
        request = cloud_calls.get_request(device, camera, seq)
        answer = await self._run(
            lambda left: self._results.Get(request, timeout=left, metadata=self._metadata)
        )
        return cloud_calls.stored_result(answer.result)

    async def list(
        self,
        camera: str | None = None,
        *,
        device: str | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        without_output: bool = False,
    ) -> AsyncIterator[StoredResult]:
        """Stored results by time of arrival, page after page; the deadline is for each page.

        without_output: without their answers, a few hundred bytes each instead of up to 3 MiB.
        """
        which, token = Which(camera, device, task, since, until, without_output), ""
        while True:
            answer = await self._page(cloud_calls.list_request(which, token, newest_first=newest_first))
            for result in answer.results:
                yield cloud_calls.stored_result(result)
            token = answer.next_page_token
            if not token:
                return

    async def prompts(self, task: str | None = None) -> tuple[CloudPrompt, ...]:
        """The prompts the cloud can decode."""
        request = cloud_calls.prompts_request(task)
        answer = await self._run(
            lambda left: self._prompts.List(request, timeout=left, metadata=self._metadata)
        )
        return cloud_calls.cloud_prompts(answer)

    def watch(
        self,
        camera: str | None = None,
        *,
        device: str | None = None,
        task: str | None = None,
        after: int | None = None,
        patience_s: float | None = None,
        without_output: bool = False,
    ) -> AsyncWatch:
        """Results as they are committed: `async for result in cloud.watch("door")`.

        after: a cursor to go on from (0: the oldest kept); None: from now on. Over any number of reconnects
        no result is missed and none comes twice; patience_s bounds one time without a connection;
        without_output: as for `list`.
        """
        which = Which(camera, device, task, without_output=without_output)
        watching = Watching(self._target, which, after, self._retry, patience_s)
        return AsyncWatch(watching, lambda request: self._results.Watch(request, metadata=self._metadata))

    async def _page(self, request: results_pb2.ListResultsRequest) -> results_pb2.ListResultsResponse:
        answer: results_pb2.ListResultsResponse = await self._run(
            lambda left: self._results.List(request, timeout=left, metadata=self._metadata)
        )
        return answer

    async def _run(self, call: Callable[[float], Awaitable[T]]) -> T:
        end = time.monotonic() + self._deadline_s

        async def attempt() -> T:
            try:
                return await call(max(end - time.monotonic(), 0.001))
            except grpc.aio.AioRpcError as error:
                raise grpc_failure(self._target, error) from error

        try:
            return await self._retry.waiting(self._deadline_s)(attempt)
        except Passing as failure:
            raise failure.error from failure.__cause__


class AsyncWatch:
    """An asynchronous iterator of results; for one task. CursorOutOfRange ends it rather than leave a gap."""

    def __init__(
        self, watching: Watching, connect: Callable[[results_pb2.WatchResultsRequest], _Call]
    ) -> None:
        self._watching = watching
        self._connect = connect
        self._call: _Call | None = None
        self._closed = False

    @property
    def cursor(self) -> int | None:
        """Where to go on after a restart: pass it as `after`; None until the cloud has first answered."""
        return self._watching.cursor

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> StoredResult:
        while not self._closed:
            try:
                response = await self._read()
            except grpc.aio.AioRpcError as error:
                await self._pause(error)
                continue
            except asyncio.CancelledError:
                self._drop()  # the library ends a call whose read is cancelled; the next one starts anew
                raise
            if response is None or not self._watching.is_whole(response):
                await self._pause(None)
            elif (result := self._watching.passed(response)) is not None:
                return result
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the watch."""
        self._closed = True
        self._drop()

    async def _read(self) -> results_pb2.WatchResultsResponse | None:
        if self._call is None:
            self._call = self._connect(self._watching.request())
            self._watching.opened(await self._call.initial_metadata())
        response = await self._call.read()
        return response if isinstance(response, results_pb2.WatchResultsResponse) else None

    async def _pause(self, error: grpc.aio.AioRpcError | None) -> None:
        self._drop()
        await asyncio.sleep(self._watching.broken(error))

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

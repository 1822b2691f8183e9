"""The blocking client of a cloud: the calls of AsyncCloudClient, for any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Protocol, TypeVar

import grpc

from splitcodec.client import cloud_calls
from splitcodec.client.answers import CloudPrompt, StoredResult
from splitcodec.client.cloud import DEADLINE_S
from splitcodec.client.cloud_calls import Which
from splitcodec.client.credentials import Credentials
from splitcodec.client.failures import grpc_failure
from splitcodec.client.retry import Passing, Retry
from splitcodec.client.watching import Watching
from splitcodec.wire.proxies import place_of
from splitcodec.wire.v1 import prompts_pb2_grpc, results_pb2, results_pb2_grpc

T = TypeVar("T")


class _Call(Protocol):
    """What grpc returns for a stream of results."""

    def __next__(self) -> results_pb2.WatchResultsResponse: ...

    def initial_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def cancel(self) -> object: ...


class CloudClient:
    """`with CloudClient("127.0.0.1:50051") as cloud: cloud.get("box-1", "door", 7)`; see AsyncCloudClient."""

    def __init__(
        self,
        target: str,
        *,
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry: Retry | None = None,
        use_proxy: bool = False,
    ) -> None:
        """target: host:port; use_proxy: see AsyncCloudClient. SettingsError: unusable credentials."""
        login = credentials or Credentials()
        cloud_calls.check_target(target, login)
        secure = login.channel_credentials()
        options = cloud_calls.channel_options(target, use_proxy)
        self._channel = (
            grpc.insecure_channel(target, options)
            if secure is None
            else grpc.secure_channel(target, secure, options)
        )
        self._results = results_pb2_grpc.ResultsStub(self._channel)  # type: ignore[no-untyped-call]
        self._prompts = prompts_pb2_grpc.PromptsStub(self._channel)  # type: ignore[no-untyped-call]
        self._target = place_of(target, use_proxy=use_proxy)
        self._metadata = login.metadata
        self._deadline_s = deadline_s
        self._retry = retry or Retry()

    def __enter__(self) -> CloudClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every call and close the channel."""
        self._channel.close()

    def get(self, device: str, camera: str, seq: int) -> StoredResult:
        """The result of one frame. ResultNotFound: the cloud holds none."""
        request = cloud_calls.get_request(device, camera, seq)
        answer = self._run(lambda left: self._results.Get(request, timeout=left, metadata=self._metadata))
        return cloud_calls.stored_result(answer.result)

    def list(
        self,
        camera: str | None = None,
        *,
        device: str | None = None,
        task: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        without_output: bool = False,
    ) -> Iterator[StoredResult]:
        """Stored results by time of arrival, page after page; the deadline is for each page.

        without_output: without their answers, a few hundred bytes each instead of up to 3 MiB.
        """
        which, token = Which(camera, device, task, since, until, without_output), ""
        while True:
            answer = self._page(cloud_calls.list_request(which, token, newest_first=newest_first))
            for result in answer.results:
                yield cloud_calls.stored_result(result)
            token = answer.next_page_token
            if not token:
                return

    def prompts(self, task: str | None = None) -> tuple[CloudPrompt, ...]:
        """The prompts the cloud can decode."""
        request = cloud_calls.prompts_request(task)
        answer = self._run(lambda left: self._prompts.List(request, timeout=left, metadata=self._metadata))
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
    ) -> Watch:
        """Results as they are committed; see AsyncCloudClient.watch. `close` from another thread ends it."""
        which = Which(camera, device, task, without_output=without_output)
        watching = Watching(self._target, which, after, self._retry, patience_s)
        return Watch(watching, lambda request: self._results.Watch(request, metadata=self._metadata))

    def _page(self, request: results_pb2.ListResultsRequest) -> results_pb2.ListResultsResponse:
        answer: results_pb2.ListResultsResponse = self._run(
            lambda left: self._results.List(request, timeout=left, metadata=self._metadata)
        )
        return answer

    def _run(self, call: Callable[[float], T]) -> T:
        end = time.monotonic() + self._deadline_s

        def attempt() -> T:
            try:
                return call(max(end - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                raise grpc_failure(self._target, error) from error

        try:
            return self._retry.blocking(self._deadline_s)(attempt)
        except Passing as failure:
            raise failure.error from failure.__cause__


class Watch:
    """An iterator of results, for one thread; any may close it. CursorOutOfRange: it would leave a gap."""

    def __init__(
        self, watching: Watching, connect: Callable[[results_pb2.WatchResultsRequest], _Call]
    ) -> None:
        self._watching = watching
        self._connect = connect
        self._call: _Call | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    @property
    def cursor(self) -> int | None:
        """Where to go on after a restart: pass it as `after`; None until the cloud has first answered."""
        return self._watching.cursor

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> StoredResult:
        while not self._closed.is_set():
            try:
                response = self._open().__next__()
            except grpc.RpcError as error:
                self._pause(error)
                continue
            except StopIteration:
                self._pause(None)
                continue
            if not self._watching.is_whole(response):
                self._pause(None)
            elif (result := self._watching.passed(response)) is not None:
                return result
        raise StopIteration

    def close(self) -> None:
        """End the watch, also while another thread waits for a result."""
        self._closed.set()
        self._drop()

    def _open(self) -> _Call:
        with self._lock:
            call = self._call
            fresh = call is None
            if call is None:
                call = self._call = self._connect(self._watching.request())
            if self._closed.is_set():
                call.cancel()
        if fresh:
            self._watching.opened(call.initial_metadata())
        return call

    def _pause(self, error: grpc.RpcError | None) -> None:
        self._drop()
        if not self._closed.is_set():
            self._closed.wait(self._watching.broken(error))

    def _drop(self) -> None:
        with self._lock:
            if self._call is not None:
                self._call.cancel()
                self._call = None

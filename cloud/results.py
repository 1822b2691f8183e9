"""Results: one, a history in pages, or live from a cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, TypeAlias

import grpc

from cloud.access import recheck
from cloud.messages import NAME, frame_key
from cloud.metrics import CloudMetrics
from cloud.reads import Filter
from cloud.result_log import ResultLog
from cloud.status import refusing
from splitcodec.errors import CursorOutOfRange, InvalidRequest, ResultNotFound
from splitcodec.wire.names import CURSOR_KEY, MAX_SEQ
from splitcodec.wire.v1.results_pb2 import (
    GetResultRequest,
    GetResultResponse,
    ListResultsRequest,
    ListResultsResponse,
    WatchResultsRequest,
    WatchResultsResponse,
)
from splitcodec.wire.v1.results_pb2_grpc import ResultsServicer as ResultsBase

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
WATCH_PAGE: Final = 100  # results held in memory per watcher

GetContext: TypeAlias = "grpc.aio.ServicerContext[GetResultRequest, GetResultResponse]"
ListContext: TypeAlias = "grpc.aio.ServicerContext[ListResultsRequest, ListResultsResponse]"
WatchContext: TypeAlias = "grpc.aio.ServicerContext[WatchResultsRequest, WatchResultsResponse]"


class ResultsServicer(ResultsBase):
    """Reads from the store alone, so a slow reader costs one page of memory."""

    def __init__(self, results: ResultLog, metrics: CloudMetrics) -> None:
        self._results = results
        self._metrics = metrics

    async def Get(self, request: GetResultRequest, context: GetContext) -> GetResultResponse:
        """See results.proto."""
        async with refusing(context, self._metrics):
            key = frame_key(request.key)
            result = await self._results.find(key)
            if result is None:
                raise ResultNotFound(
                    f"no result for {key}; it has not arrived, was refused, or was retired by age or size"
                )
            return GetResultResponse(result=result)

    async def List(self, request: ListResultsRequest, context: ListContext) -> ListResultsResponse:
        """See results.proto."""
        async with refusing(context, self._metrics):
            chosen = Filter(
                _name("device", request.device),
                _name("camera", request.camera),
                _name("task", request.task),
                request.captured_from_unix_nanos,
                request.captured_until_unix_nanos,
            )
            if request.page_size > MAX_PAGE:
                raise InvalidRequest(
                    f"page_size {request.page_size} is above {MAX_PAGE}; ask for smaller pages"
                )
            start = _page_start(request.page_token, request.newest_first)
            limit = request.page_size or DEFAULT_PAGE
            page = await self._results.read(
                chosen,
                start,
                limit,
                newest_first=request.newest_first,
                without_output=request.without_output,
            )
            return ListResultsResponse(
                results=page.results, next_page_token=str(page.position) if page.more else ""
            )

    async def Watch(
        self, request: WatchResultsRequest, context: WatchContext
    ) -> AsyncIterator[WatchResultsResponse]:
        """See results.proto."""
        with self._metrics.watchers.track_inprogress():
            async with refusing(context, self._metrics):
                chosen = Filter(
                    _name("device", request.device),
                    _name("camera", request.camera),
                    _name("task", request.task),
                )
                before = position = await self._start(request, chosen)
                await context.send_initial_metadata(((CURSOR_KEY, str(position)),))
                while True:
                    await self._results.wait_newer(position)
                    recheck()
                    page = await self._results.tail(
                        chosen, position, WATCH_PAGE, without_output=request.without_output
                    )
                    for result in page.results:
                        yield WatchResultsResponse(result=result, after_cursor=before)
                        before = result.cursor
                    position = page.position
                    self._results.check_running()

    async def _start(self, request: WatchResultsRequest, chosen: Filter) -> int:
        """The cursor to start after."""
        if not request.HasField("after_cursor"):
            return self._results.newest
        if request.after_cursor == 0:
            return await self._results.oldest_position(chosen)
        if request.after_cursor > MAX_SEQ:
            raise CursorOutOfRange(f"cursor {request.after_cursor} was never given out; start from cursor 0")
        await self._results.check_gap(chosen, request.after_cursor)
        return request.after_cursor


def _name(field: str, value: str) -> str:
    if value and not NAME.fullmatch(value):
        raise InvalidRequest(f"{field} {value[:128]!r} is not 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    return value


def _page_start(token: str, newest_first: bool) -> int:
    if not token:
        return MAX_SEQ if newest_first else 0
    if not (token.isascii() and token.isdigit() and int(token[:20]) <= MAX_SEQ and len(token) <= 20):
        raise InvalidRequest(
            f"page_token {token[:40]!r} was not given out here; pass next_page_token unchanged"
        )
    return int(token)

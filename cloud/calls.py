"""How many calls run at once, over all connections and all methods but health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from cloud.access import OPEN, method_of
from cloud.metrics import CloudMetrics
from cloud.status import refusing_handler
from splitcodec.errors import TooManyRequests

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallLimit(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Ends a call with TooManyRequests while `limit` others run.

    A call counts from its headers on, whether or not its request ever comes, until it is over. Health is not
    counted: who looks whether the service is up must get an answer when it is full.
    """

    def __init__(self, limit: int, metrics: CloudMetrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self.running = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        call = asyncio.current_task()  # of the whole call: gRPC looks for its handler in it, then runs that
        if call is None or method_of(handler_call_details).startswith(OPEN):
            return await continuation(handler_call_details)
        if self.running >= self._limit:
            error = TooManyRequests(
                f"{self.running} calls are running, the limit is {self._limit}; try again in a moment, or "
                "raise max_calls"
            )
            return refusing_handler(error, self._metrics)
        self.running += 1
        call.add_done_callback(self._over)
        return await continuation(handler_call_details)

    def _over(self, _: asyncio.Task[Any]) -> None:
        self.running -= 1

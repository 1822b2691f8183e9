"""The one table from errors to gRPC status codes, and the one place that ends a call with an error.

An error in the table reaches the caller with its message (value, limit, remedy) and, in the trailing metadata
`splitcodec-error`, its class name. Any other error is INTERNAL "internal error"; the log has the rest.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol

import grpc

from cloud.metrics import CloudMetrics
from splitcodec import errors
from splitcodec.texts import shortened
from splitcodec.wire.names import ERROR_KEY, SETTLED, SETTLED_KEY

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARACTERS: Final = 1000  # the status message travels in HTTP/2 headers, which peers cap at 8 KiB

STATUS: Final[dict[type[errors.SplitcodecError], grpc.StatusCode]] = {
    errors.BitstreamError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedVersion: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DigestMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SigmaIndexMismatch: grpc.StatusCode.DATA_LOSS,
    errors.StateMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RateOutOfRange: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownTask: grpc.StatusCode.NOT_FOUND,
    errors.ResultNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PackError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PackTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.SignatureError: grpc.StatusCode.PERMISSION_DENIED,
    errors.PromptError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PromptNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PromptStateError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FrameConflict: grpc.StatusCode.ALREADY_EXISTS,
    errors.ResultRetired: grpc.StatusCode.ALREADY_EXISTS,
    errors.ResultTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CursorOutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyRequests: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyPrompts: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.WorkersUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ServiceStopping: grpc.StatusCode.UNAVAILABLE,
    errors.FrameMissing: grpc.StatusCode.UNAVAILABLE,
}

SETTLING: Final[tuple[type[errors.SplitcodecError], ...]] = (
    errors.BitstreamTooLarge,
    errors.FrameConflict,
    errors.InvalidRequest,
    errors.RateOutOfRange,
    errors.ResultRetired,
    errors.ResultTooLarge,
    errors.SigmaIndexMismatch,
    errors.StateMismatch,
    errors.UndecodableFrame,
    errors.UnknownTask,
)
"""Errors that the same bytes will meet again for ever. Not CorruptBitstream: the link may have done it; not
DigestMismatch or UnsupportedVersion: a later roll-out cures them; not GraphFailed: the engine may be ill, and
`cloud.blame` says when it is the frame."""


@dataclass(frozen=True)
class CallRefusal:
    """What a caller is told; `error`: class name, empty for internal errors; `settled`: see SETTLING."""

    code: grpc.StatusCode
    error: str
    message: str
    settled: bool

    @property
    def reason(self) -> str:
        """The label of the rejection counter; one of the class names in the table, or `internal`."""
        return self.error or "internal"


class Abortable(Protocol):
    """The one method of a gRPC call's context that ends it with an error."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> NoReturn:
        """Raises to end the call."""
        ...


def refusal_for(error: Exception) -> CallRefusal:
    """The answer to `error`; one that is not in the table is logged with its traceback and told to nobody."""
    for kind in type(error).__mro__:
        if issubclass(kind, errors.SplitcodecError) and kind in STATUS:
            message = shortened(str(error), MAX_MESSAGE_CHARACTERS)
            return CallRefusal(STATUS[kind], type(error).__name__, message, isinstance(error, SETTLING))
    log.error("internal error", exc_info=error)
    return CallRefusal(grpc.StatusCode.INTERNAL, "", "internal error", settled=False)


def reasons() -> list[str]:
    """Every value that `CallRefusal.reason` can have."""
    kinds, found = [*STATUS], {"internal"}
    while kinds:
        kind = kinds.pop()
        found.add(kind.__name__)
        kinds.extend(kind.__subclasses__())
    return sorted(found)


async def end_call(context: Abortable, refusal: CallRefusal) -> NoReturn:
    """End the call with that status."""
    metadata: tuple[tuple[str, str], ...] = ((ERROR_KEY, refusal.error),) if refusal.error else ()
    if refusal.settled:
        metadata += ((SETTLED_KEY, SETTLED),)
    await context.abort(refusal.code, refusal.message, metadata)


def refusing_handler(error: Exception, metrics: CloudMetrics) -> grpc.RpcMethodHandler[Any, Any]:
    """Ends any kind of call at once, counted by reason; a handler of one request would wait for it first."""

    async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
        refusal = refusal_for(error)
        metrics.rejected.labels(refusal.reason).inc()
        await end_call(context, refusal)

    return grpc.stream_stream_rpc_method_handler(refuse)


class refusing:
    """Turns an error of its body into the end of the call, counted by reason. Cancellation passes."""

    def __init__(self, context: Abortable, metrics: CloudMetrics) -> None:
        self._context = context
        self._metrics = metrics

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            refusal = refusal_for(error)
            self._metrics.rejected.labels(refusal.reason).inc()
            await end_call(self._context, refusal)

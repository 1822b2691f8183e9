"""From what a service answered, or from silence, to the typed error its caller catches."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, cast

import grpc

from splitcodec import errors
from splitcodec.client.retry import Passing
from splitcodec.errors import SplitcodecError
from splitcodec.texts import shortened
from splitcodec.wire.names import ERROR_KEY

MAX_TEXT: Final = 2000
MAX_STRANGE_TEXT: Final = 200  # of an answer that is no problem document
MAX_RETRY_AFTER_S: Final = 60.0
_URN: Final = "urn:splitcodec:problem:"
_PASSING_STATUS: Final = (429, 503)
PASSING_CODES: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)


def http_failure(what: str, status: int, retry_after: str | None, body: bytes) -> SplitcodecError | Passing:
    """The error of an answer that is no success; Passing where the edge says it did not take the request."""
    try:
        problem = json.loads(body)
        fields = {
            name: shortened(str(problem[name]), MAX_TEXT) for name in ("type", "title", "detail", "remedy")
        }
    except (ValueError, KeyError, TypeError):
        fields = {
            "type": "",
            "title": "",
            "detail": shortened(body[: 2 * MAX_STRANGE_TEXT].decode("latin-1"), MAX_STRANGE_TEXT),
            "remedy": "",
        }
    text = " ".join(
        filter(None, [f"{what}: {status} {fields['title']}: {fields['detail']}.", fields["remedy"]])
    )
    kind = _named("".join(part.title() for part in fields["type"].removeprefix(_URN).split("-")))
    error = (kind or errors.EdgeRefused)(text)
    if status in _PASSING_STATUS:
        return Passing(error, _seconds(retry_after))
    return error


def grpc_failure(target: str, error: grpc.RpcError) -> SplitcodecError | Passing:
    """The error of a gRPC call; Passing where a later attempt may succeed."""
    code, details = _code(error), _details(error)
    metadata = error.trailing_metadata() if hasattr(error, "trailing_metadata") else ()
    pairs = cast("Iterable[tuple[str, str]]", metadata or ())  # the stubs lag behind
    names = [value for key, value in pairs if key == ERROR_KEY]
    kind = _named(names[0]) if names else None
    text = f"the cloud at {target} answered {code.name}: {details}"
    if kind is None:
        kind = {
            grpc.StatusCode.UNAVAILABLE: errors.CloudUnavailable,
            grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        }.get(code, errors.CloudRefused)
    return Passing(kind(text)) if code in PASSING_CODES else kind(text)


def final(failure: SplitcodecError | Passing) -> SplitcodecError:
    """The error a caller gets when nothing is tried again."""
    return failure.error if isinstance(failure, Passing) else failure


def _named(name: str) -> type[SplitcodecError] | None:
    kind = getattr(errors, name, None) if name.isidentifier() else None
    return kind if isinstance(kind, type) and issubclass(kind, SplitcodecError) else None


def _seconds(retry_after: str | None) -> float:
    """Retry-After in seconds; its other form, a date, is never sent by an edge."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return 0.0
    return min(float(retry_after[:6]), MAX_RETRY_AFTER_S)


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if hasattr(error, "code") else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _details(error: grpc.RpcError) -> str:
    details = error.details() if hasattr(error, "details") else None
    return shortened(str(details or "no details"), MAX_TEXT)

"""Who may call what: bearer tokens, checked before a request is read. What the table lacks needs `admin`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import grpc

from cloud.metrics import CloudMetrics
from cloud.status import refusing_handler
from splitcodec.errors import AccessError
from splitcodec.tokens import Caller, Scope, TokenBook

_READ: Final[tuple[Scope, ...]] = ("frames", "results", "prompts")
METHODS: Final[dict[str, tuple[Scope, ...]]] = {
    "/splitcodec.wire.v1.FeatureIngest/Infer": ("frames",),
    "/splitcodec.wire.v1.FeatureIngest/Stream": ("frames",),
    "/splitcodec.wire.v1.Results/Get": ("results",),
    "/splitcodec.wire.v1.Results/List": ("results",),
    "/splitcodec.wire.v1.Results/Watch": ("results",),
    "/inference.GRPCInferenceService/ModelInfer": ("frames",),
    "/inference.GRPCInferenceService/ModelMetadata": _READ,
    "/inference.GRPCInferenceService/ModelReady": _READ,
    "/inference.GRPCInferenceService/ServerMetadata": _READ,
    "/inference.GRPCInferenceService/ServerReady": _READ,
    "/inference.GRPCInferenceService/ServerLive": _READ,
    "/splitcodec.wire.v1.Prompts/List": _READ,
    "/splitcodec.wire.v1.Prompts/Watch": _READ,
    "/splitcodec.wire.v1.Prompts/Fetch": _READ,
    "/splitcodec.wire.v1.Prompts/Confirm": ("frames",),
    "/splitcodec.wire.v1.Prompts/ListDevices": ("prompts",),
    "/splitcodec.wire.v1.Prompts/Publish": ("prompts",),
    "/splitcodec.wire.v1.Prompts/Activate": ("prompts",),
    "/splitcodec.wire.v1.Prompts/Rollback": ("prompts",),
    "/splitcodec.wire.v1.Prompts/Retire": ("prompts",),
}
"""One of these scopes opens a method."""
ANY_TOKEN: Final = ("/grpc.reflection.",)
"""Prefixes of methods that any token opens: they tell what is public in the source."""
OPEN: Final = ("/grpc.health.v1.Health/",)
"""Prefixes of methods that need no token: load balancers and orchestrators have none."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True)
class _Ticket:
    """What a call came with."""

    tokens: TokenBook
    header: str | None
    scopes: tuple[Scope, ...]

    def check(self) -> Caller:
        """Raises NotAuthenticated or NotPermitted."""
        found = self.tokens.check(self.header)
        found.require(self.scopes)
        return found


_TICKET: ContextVar[_Ticket | None] = ContextVar("ticket", default=None)


def recheck() -> Caller | None:
    """Whose call this is, by the tokens as they are now; None where the service asks nobody for one.

    Long calls ask again and again, so a token that was revoked or ended stops them. Raises AccessError.
    """
    ticket = _TICKET.get()
    return None if ticket is None else ticket.check()


def scopes_of(method: str) -> tuple[Scope, ...] | None:
    """Scopes of which one opens a method, () for any token, None for no token."""
    if method.startswith(OPEN):
        return None
    if method.startswith(ANY_TOKEN):
        return ()
    return METHODS.get(method, ("admin",))


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Ends a call with UNAUTHENTICATED or PERMISSION_DENIED before its handler sees anything of it."""

    def __init__(self, tokens: TokenBook, metrics: CloudMetrics) -> None:
        self._tokens = tokens
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        scopes = scopes_of(method_of(handler_call_details))
        if scopes is not None:
            ticket = _Ticket(self._tokens, _authorization(handler_call_details), scopes)
            try:
                ticket.check()
            except AccessError as error:
                self._metrics.access_refused.labels(type(error).__name__).inc()
                return refusing_handler(error, self._metrics)
            _TICKET.set(ticket)
        return await continuation(handler_call_details)


def method_of(details: grpc.HandlerCallDetails) -> str:
    """/package.Service/Method of a call."""
    return _text(details.method)


def _authorization(details: grpc.HandlerCallDetails) -> str | None:
    """The header, None without one; of several, the first."""
    metadata = cast("Iterable[tuple[str, str | bytes]]", details.invocation_metadata or ())
    for key, value in metadata:
        if key == "authorization":
            return _text(value)
    return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")

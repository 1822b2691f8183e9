"""A cloud that asks for tokens, and tokens for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
from cloud_helpers import PATIENCE_S, Cloud, running

from splitcodec.tokens import Scope, new_token, read_tokens, write_tokens
from splitcodec.wire.v1 import ingest_pb2

Metadata = tuple[tuple[str, str], ...]


def add_token(place: Path, *scopes: Scope, device: str | None = None, hours: float = 1) -> str:
    """A new token in the file."""
    token, record = new_token(scopes, datetime.now(timezone.utc) + timedelta(hours=hours), device)
    write_tokens(place, (*(read_tokens(place) if place.exists() else ()), record))
    return token


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def guarded(tmp_path: Path, **settings: object) -> AsyncIterator[tuple[Cloud, Path]]:
    """A cloud that asks for tokens, and its token file."""
    place = tmp_path / "tokens.json"
    if not place.exists():
        write_tokens(place, [])
    async with running(tmp_path / "data", token_file=place, **settings) as cloud:
        yield cloud, place


async def ending(cloud: Cloud, method: str, request: bytes, metadata: Metadata = ()) -> grpc.StatusCode:
    """How a call of one message ends; for methods of any kind.

    With the blocking client: that of asyncio says INTERNAL when a write meets the end of its call.
    """

    def call() -> grpc.StatusCode:
        with grpc.insecure_channel(cloud.target) as channel:
            ask = channel.stream_stream(method)
            running = ask(iter([request]), metadata=metadata, timeout=PATIENCE_S)
            with contextlib.suppress(grpc.RpcError):
                list(running)
            return running.code()

    return await asyncio.to_thread(call)


async def code_of(call: grpc.aio.Call) -> grpc.StatusCode:
    """How the call ends; its answers are dropped, as the status comes behind them."""
    if isinstance(call, grpc.aio.StreamStreamCall):
        async for _ in until_end(call):
            pass
    return await asyncio.wait_for(call.code(), PATIENCE_S)


async def until_end(call: grpc.aio.StreamStreamCall) -> AsyncIterator[ingest_pb2.StreamResponse]:
    """Responses until the call ends, with or without an error."""
    try:
        while (response := await call.read()) is not grpc.aio.EOF:
            yield response
    except grpc.aio.AioRpcError:
        return

"""Whole streams of frames to a cloud, and what came of them: responses, acks, and rows on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import grpc
from cloud_helpers import PATIENCE_S, Cloud

from cloud.store import DATABASE_FILE
from splitcodec.wire.v1.ingest_pb2 import StreamRequest, StreamResponse


async def collect(
    cloud: Cloud, requests: Iterable[StreamRequest]
) -> tuple[list[StreamResponse], grpc.aio.AioRpcError | None]:
    """Every response to a stream that sends all requests and half-closes, and the error that ended it, if one
    did."""
    call = cloud.ingest.Stream(iter(requests), timeout=PATIENCE_S)
    responses: list[StreamResponse] = []
    try:
        async for response in call:
            responses.append(response)
    except grpc.aio.AioRpcError as error:
        return responses, error
    return responses, None


def acks(responses: Iterable[StreamResponse]) -> list[tuple[str, int]]:
    return [(key.camera, key.seq) for response in responses for key in response.acks]


def labels(responses: Iterable[StreamResponse]) -> list[str]:
    return [result.detections.items[0].label for response in responses for result in response.results]


def stored_in_file(folder: Path) -> list[tuple[str, int]]:
    """Camera and seq of every committed row, in commit order, read past the server."""
    connection = sqlite3.connect(folder / DATABASE_FILE)
    try:
        return connection.execute("SELECT camera, seq FROM results ORDER BY cursor").fetchall()
    finally:
        connection.close()

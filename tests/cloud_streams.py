"""Whole streams of frames to a cloud, and what came of them: responses, acks, and rows on disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import grpc
from cloud_helpers import PATIENCE_S, Cloud

from cloud.store import DATABASE_FILE
from splitcodec.wire.options import client_options
from splitcodec.wire.v1.ingest_pb2 import StreamRequest, StreamResponse
from splitcodec.wire.v1.ingest_pb2_grpc import FeatureIngestStub


async def collect(
    cloud: Cloud, requests: Iterable[StreamRequest]
) -> tuple[list[StreamResponse], grpc.RpcError | None]:
    """Every response to a stream that sends all requests and half-closes, and the error that ended it, if one
    did.

    With the blocking client: that of asyncio says INTERNAL when a write meets the end of its call.
    """
    return await asyncio.to_thread(_collect, cloud.target, list(requests))


def _collect(target: str, requests: list[StreamRequest]) -> tuple[list[StreamResponse], grpc.RpcError | None]:
    responses: list[StreamResponse] = []
    with grpc.insecure_channel(target, client_options()) as channel:
        try:
            for response in FeatureIngestStub(channel).Stream(iter(requests), timeout=PATIENCE_S):
                responses.append(response)
        except grpc.RpcError as error:
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

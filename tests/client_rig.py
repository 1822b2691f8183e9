"""What tests of the Python clients share: a cloud, a link to it, posts, and the first results of a watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from cloud_helpers import PATIENCE_S, Cloud, infer_request, running
from fault_proxy import FaultProxy, fault_proxy
from waiting import until

from splitcodec.client import AsyncWatch, Retry, StoredResult

QUICK: Final = Retry(first_pause_s=0.01, longest_pause_s=0.05)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
def link(cloud: Cloud) -> Iterator[FaultProxy]:
    with fault_proxy(cloud.target) as proxy:
        yield proxy


async def post(cloud: Cloud, *seqs: int, camera: str = "door") -> None:
    for seq in seqs:
        await cloud.ingest.Infer(infer_request(seq, camera), timeout=PATIENCE_S)


async def take(watch: AsyncWatch, count: int) -> list[int]:
    return [(await asyncio.wait_for(anext(watch), PATIENCE_S)).seq for _ in range(count)]


async def opened(watch: AsyncWatch) -> asyncio.Task[StoredResult]:
    """The first result to come; returns once the cloud has the watch, so nothing posted later is missed."""
    first = asyncio.ensure_future(anext(watch))
    await until(lambda: watch.cursor is not None)
    return first

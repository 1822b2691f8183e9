"""Whoever listens is told of every frame that got its result, and let go when the edge stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from edge_rig import EdgeRig, edge_rig, tiny_codec
from http_rig import serving

from edge import news
from edge.app import create_app
from edge.codec import Codec
from edge.news import MAX_LISTENERS, News
from splitcodec.errors import QueueFull, ServiceStopping

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


async def next_of(events: AsyncIterator[str]) -> str:
    return await asyncio.wait_for(anext(events), PATIENCE_S)


async def test_a_frame_is_told_once_and_frames_that_come_together_are_one_event() -> None:
    told = News()
    every, door = told.listen(None), told.listen("door")
    assert [await next_of(one) for one in (every, door)] == [": alive\n\n"] * 2
    told.tell("door", "door-1")
    told.tell("yard", "yard-1")
    assert json.loads((await next_of(every)).partition("data: ")[2]) == {"camera": "yard", "id": "yard-1"}
    assert json.loads((await next_of(door)).partition("data: ")[2]) == {"camera": "door", "id": "door-1"}
    told.tell("yard", "yard-2")
    told.tell("door", "door-2")
    assert "door-2" in await next_of(door)
    told.close()
    with pytest.raises(StopAsyncIteration):
        await next_of(door)


async def test_nothing_new_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "ALIVE_S", 0.01)
    events = News().listen(None)
    assert [await next_of(events) for _ in range(3)] == [": alive\n\n"] * 3


async def test_listeners_are_bounded_and_their_places_come_back() -> None:
    told = News()
    listening = [told.listen(None) for _ in range(MAX_LISTENERS)]
    for one in listening:
        await next_of(one)
    with pytest.raises(QueueFull, match="32 listen for events, which is the limit"):
        told.listen(None)
    await listening.pop().aclose()  # type: ignore[attr-defined]
    await next_of(told.listen(None))
    told.close()
    with pytest.raises(ServiceStopping):
        told.listen(None)


@asynccontextmanager
async def listening(codec: Codec, folder: Path) -> AsyncIterator[tuple[EdgeRig, AsyncIterator[str]]]:
    """An edge on a socket, and the lines of its events."""
    async with (
        edge_rig(codec, folder) as rig,
        serving(create_app(rig.pipeline)) as url,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http,
        http.stream("GET", "/v1/events?camera=door") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert await anext(lines) == ": alive"
        yield rig, lines


async def test_events_come_over_http_and_end_when_the_edge_drains(codec: Codec, tmp_path: Path) -> None:
    async with listening(codec, tmp_path) as (rig, lines):
        await rig.post(camera="yard")
        report = (await rig.post(camera="door")).json()
        found = [line async for line in _until(lines, "data: ")]
        assert json.loads(found[-1].removeprefix("data: ")) == {"camera": "door", "id": report["id"]}
        await rig.pipeline.drain(0)
        assert [line async for line in lines if line] == []


async def _until(lines: AsyncIterator[str], start: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith(start):
            return

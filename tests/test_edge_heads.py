"""Connections that begin a request and do not end its head, on real sockets."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from edge_rig import edge_rig, tiny_codec
from http_rig import Said, Script, serving
from waiting import until

from edge import heads
from edge.__main__ import http_config

PATIENCE_S = 30.0
GET = b"GET / HTTP/1.1\r\nHost: edge\r\n"


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("whole", "half"),
    [(b"", b""), (b"", GET), (GET + b"\r\n", GET)],
    ids=["silent", "first request", "second request"],
)
async def test_a_head_that_does_not_end_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, whole: bytes, half: bytes
) -> None:
    monkeypatch.setattr(heads, "HEAD_S", 0.05)
    async with serving(Script([Said(200)]), http=heads.TimedHeads, timeout_keep_alive=600) as url:
        reader, writer = await connect(url)
        if whole:
            writer.write(whole)
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        writer.write(half)
        await asyncio.wait_for(reader.read(), PATIENCE_S)  # until the server closes it
        writer.close()


class Kept(heads.TimedHeads):
    """Remembers the protocols that were made."""

    made: ClassVar[list[Kept]] = []

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.made.append(self)


async def test_a_slow_body_is_no_slow_head_and_an_answered_connection_is_no_silent_one() -> None:
    script = Script([Said(200, headers=((b"content-length", b"2"),))])
    Kept.made.clear()
    async with serving(script, http=Kept) as url:
        reader, writer = await connect(url)
        await until(lambda: Kept.made and Kept.made[0].waits_for_head)
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 2\r\n\r\na")
            await until(lambda: not Kept.made[0].waits_for_head)
            writer.write(b"b")
            assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"{}"), PATIENCE_S)
            assert not Kept.made[0].waits_for_head
        writer.close()
    assert [body for *_, body in script.asked] == [b"ab", b"ab"]


async def test_the_edge_is_served_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("edge")
    async with edge_rig(tiny_codec(folder / "pack"), folder / "state") as rig:
        config = http_config(rig.pipeline.settings, rig.pipeline, None)
    assert config.http_protocol_class is heads.TimedHeads

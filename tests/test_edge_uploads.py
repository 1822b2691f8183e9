"""Uploads on real sockets: slow, abandoned, cut off, too large; none of them is in the way of a picture."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from edge_rig import JPEG_TYPE, EdgeRig, edge_rig, picture, tiny_codec
from http_rig import serving
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.__main__ import guarded_app
from edge.app import create_app
from edge.codec import Codec
from edge.settings import EdgeSettings
from splitcodec.tokens import new_token, write_tokens

PATIENCE_S = 30
CAP = 20_000


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@dataclass
class Watched:
    """Tells when a part of a body was read, and when a request has ended."""

    app: ASGIApp
    reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    ends: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def seen() -> Message:
            message = await receive()
            if message.get("body"):
                self.reads.release()
            return message

        try:
            await self.app(scope, seen, send)
        finally:
            self.ends.release()


@dataclass
class Served:
    """An edge on a socket."""

    rig: EdgeRig
    watched: Watched
    port: int
    clients: list[Connection] = field(default_factory=list)

    async def begin(self, body: bytes, length: int, *head: str, path: str = "/v1/frames") -> Connection:
        """Send a head that promises `length` bytes, and `body`; returns at once."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = (f"POST {path} HTTP/1.1", "Host: edge", f"Content-Length: {length}", *head, "", "")
        writer.write("\r\n".join(lines).encode() + body)
        self.clients.append(Connection(reader, writer))
        return self.clients[-1]

    async def stall(self, count: int, num_bytes: int) -> list[Connection]:
        """So many uploads of which num_bytes have arrived, and no more come."""
        stalled = [await self.begin(bytes(num_bytes), num_bytes + 1) for _ in range(count)]
        for _ in stalled:
            await in_time(self.watched.reads.acquire())
        return stalled

    def outcome(self, name: str) -> float:
        """How many frames ended so."""
        families = self.rig.pipeline.metrics.frames.collect()
        samples = [one for family in families for one in family.samples if one.name.endswith("_total")]
        return sum(one.value for one in samples if one.labels["outcome"] == name)


@dataclass
class Connection:
    """A client that speaks for itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status(self) -> int:
        """Of the next answer, final or not; its headers are in `head` then."""
        self.head = (await in_time(self.reader.readuntil(b"\r\n\r\n"))).decode().lower()
        return int(self.head.split()[1])

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def in_time(work):  # type: ignore[no-untyped-def]
    return await asyncio.wait_for(work, PATIENCE_S)


@asynccontextmanager
async def served(codec: Codec, folder: Path, **options: object) -> AsyncIterator[Served]:
    async with edge_rig(codec, folder, **{"max_picture_bytes": CAP, **options}) as rig:
        watched = Watched(create_app(rig.pipeline))
        async with serving(watched) as url:
            edge = Served(rig, watched, urlsplit(url).port or 0)
            try:
                yield edge
            finally:
                for client in edge.clients:
                    await client.close()
        assert rig.pipeline.uploads.held_bytes == 0


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_client_that_goes_away_is_an_outcome_of_its_own_and_no_error(
    codec: Codec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="edge.body")
    async with served(codec, tmp_path) as edge:
        (client,) = await edge.stall(1, 100)
        await client.close()
        await in_time(edge.watched.ends.acquire())
        assert (edge.outcome("gone"), edge.outcome("InternalError")) == (1, 0)
        assert (await edge.rig.post()).status_code == 200
    assert errors_in(caplog) == []
    (said,) = [record for record in caplog.records if record.name == "edge.body"]
    assert (said.levelno, "after 100 bytes of the picture" in said.getMessage()) == (logging.DEBUG, True)


async def test_an_upload_that_a_stop_cuts_off_is_told_to_come_again(
    codec: Codec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(codec, tmp_path) as edge:
        (client,) = await edge.stall(1, 100)
        await edge.rig.pipeline.drain(0)
        assert await client.status() == 503
        assert "retry-after:" in client.head
        assert (edge.outcome("ServiceStopping"), edge.outcome("InternalError")) == (1, 0)
    assert errors_in(caplog) == []


async def test_many_slow_uploads_lock_nobody_out(codec: Codec, tmp_path: Path) -> None:
    async with served(codec, tmp_path, max_pending_frames=2) as edge:
        await edge.stall(40, 1000)
        assert (await edge.rig.post()).status_code == 200


async def test_many_abandoned_uploads_give_nobody_429(codec: Codec, tmp_path: Path) -> None:
    async with served(codec, tmp_path, max_pending_frames=16) as edge:
        abandoned = await edge.stall(50, 1000)
        for client in abandoned:
            await client.close()
        for _ in abandoned:
            await in_time(edge.watched.ends.acquire())
        answers = [(await edge.rig.post()).status_code for _ in range(3)]
        assert answers == [200, 200, 200]
        assert (edge.outcome("gone"), edge.outcome("QueueFull")) == (50, 0)


async def test_over_the_budget_of_all_uploads_the_largest_is_refused(codec: Codec, tmp_path: Path) -> None:
    async with served(codec, tmp_path, max_upload_bytes=3 * CAP) as edge:
        (largest,) = await edge.stall(1, CAP - 1)
        await edge.stall(2, CAP - 2)
        assert edge.rig.pipeline.uploads.held_bytes == 3 * CAP - 5
        body = picture()
        assert len(body) > 5
        camera = await edge.begin(body, len(body), "Content-Type: image/jpeg")
        assert (await largest.status(), await camera.status()) == (429, 200)
        assert "retry-after:" in largest.head
        assert b"max_upload_bytes" in (await in_time(largest.reader.readuntil(b"}"))).lower()
        assert edge.outcome("QueueFull") == 1


async def test_each_end_of_an_upload_gives_its_bytes_back(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(
        codec, tmp_path, max_picture_bytes=CAP, max_upload_bytes=CAP, upload_timeout_s=0.05
    ) as rig:

        async def stalls() -> AsyncIterator[bytes]:
            yield bytes(CAP)
            await asyncio.Event().wait()

        for body, status in ((picture(), 200), (b"x" * CAP, 415), (bytes(CAP + 1), 413), (stalls(), 408)):
            answer = await rig.http.post("/v1/frames", content=body, headers=JPEG_TYPE)
            assert answer.status_code == status, answer.text
            assert rig.pipeline.uploads.held_bytes == 0


async def test_a_body_that_is_announced_too_large_is_never_asked_for(codec: Codec, tmp_path: Path) -> None:
    async with served(codec, tmp_path) as edge:
        client = await edge.begin(b"", CAP + 1, "Expect: 100-continue")
        assert await client.status() == 413
        assert "connection: close" in client.head
        assert edge.outcome("FrameTooLarge") == 1


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/healthz", 405)])
async def test_a_body_that_nobody_reads_is_never_asked_for(
    codec: Codec, tmp_path: Path, path: str, status: int
) -> None:
    async with served(codec, tmp_path) as edge:
        client = await edge.begin(b"", 1000, "Expect: 100-continue", path=path)
        assert await client.status() == status
        assert "connection: close" in client.head


async def test_a_body_within_the_cap_is_asked_for(codec: Codec, tmp_path: Path) -> None:
    async with served(codec, tmp_path) as edge:
        body = picture()
        client = await edge.begin(b"", len(body), "Expect: 100-continue", "Content-Type: image/jpeg")
        assert await client.status() == 100
        client.writer.write(body)
        assert await client.status() == 200


async def test_a_body_of_a_stranger_is_never_asked_for(codec: Codec, tmp_path: Path) -> None:
    ends = datetime.now(timezone.utc) + timedelta(hours=1)
    write_tokens(tmp_path / "tokens", [new_token(["frames"], ends, None)[1]])
    async with edge_rig(codec, tmp_path / "state", token_file=tmp_path / "tokens") as rig:
        watched = Watched(guarded_app(rig.pipeline.settings, rig.pipeline))
        async with serving(watched) as url:
            edge = Served(rig, watched, urlsplit(url).port or 0)
            client = await edge.begin(b"", 1000, "Expect: 100-continue")
            assert await client.status() == 401
            assert "connection: close" in client.head
            await client.close()


def test_a_budget_below_one_picture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_upload_bytes 9 holds no picture of max_picture_bytes 10"):
        EdgeSettings(max_picture_bytes=10, max_upload_bytes=9)

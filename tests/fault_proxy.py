"""A TCP proxy that spoils the link on command: slow, late, silent, cut, damaged, closed, or out of order.

It runs in a thread of its own, so that tests with and without an event loop can use it, and services in other
processes see nothing but a bad network. `up` is from the client to the target.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from http2_frames import Http2Frames

CHUNK: Final = 1400  # bytes passed on at once, about a packet
BUFFER: Final = 8 * 1024  # per socket: what hides in here is neither sent nor felt by the sender
LINE_BYTES: Final = 256 * 1024  # on the way while the line has a delay
T = TypeVar("T")


@dataclass(frozen=True)
class Faults:
    """What is wrong with the link now. *_bps: bits per second, None for no limit; delay_s: each way.

    stalled: nothing passes, connections stay; refuse: new connections are closed at once; corrupt_every: one
    bit in so many bytes is flipped, on the average (0: none); lose_every: one HTTP/2 DATA frame in so many is
    lost whole, on the average (0: none).
    """

    up_bps: float | None = None
    down_bps: float | None = None
    delay_s: float = 0.0
    stalled: bool = False
    refuse: bool = False
    corrupt_every: int = 0
    lose_every: int = 0


@dataclass(eq=False)
class _Pipe:
    """One direction of one connection."""

    name: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    line: asyncio.Queue[tuple[float, bytes]] = field(
        default_factory=lambda: asyncio.Queue(LINE_BYTES // CHUNK)
    )
    held: bool = False
    frames: Http2Frames = field(init=False)

    def __post_init__(self) -> None:
        self.frames = Http2Frames(from_client=self.name == "up")


@dataclass(eq=False)
class _Connection:
    up: _Pipe
    down: _Pipe
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class FaultProxy:
    """Use `fault_proxy`; the methods may be called from any thread."""

    def __init__(self, target: str, seed: int) -> None:
        self.target = target
        self.port = 0
        self.connections_seen = 0
        self.lost = 0  # HTTP/2 DATA frames
        self._taken = 0
        self._took = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._faults = Faults()
        self._changed = asyncio.Event()
        self._free_at = {"up": 0.0, "down": 0.0}
        self._dice = random.Random(seed)
        self._connections: set[_Connection] = set()
        self._orphans: list[_Connection] = []
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """host:port to connect to."""
        return f"127.0.0.1:{self.port}"

    def set(self, **changes: Any) -> None:
        """Change fields of Faults; the rest stays."""
        self._run(self._set(replace(self._faults, **changes)))

    def heal(self) -> None:
        """No faults from here on."""
        self._run(self._set(Faults()))

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        self._run(self._cut())

    @property
    def taken(self) -> int:
        """Bytes that clients have sent into this proxy, all together."""
        with self._took:
            return self._taken

    def wait_until_taken(self, num_bytes: int, timeout_s: float = 10) -> None:
        """Until clients have sent so many bytes into this proxy, all together."""
        with self._took:
            if not self._took.wait_for(lambda: self._taken >= num_bytes, timeout_s):
                raise TimeoutError(f"{self._taken} bytes were sent, not {num_bytes}")

    def orphan(self) -> None:
        """The client's end breaks; what it had sent stays under way until `deliver_orphans`."""
        self._run(self._orphan())

    def deliver_orphans(self) -> None:
        """What was under way on broken connections arrives, after what newer connections brought."""
        self._run(self._deliver_orphans())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(10)

    def start(self) -> None:
        self._thread.start()
        self._server = self._run(self._listen())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=BUFFER)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        self._server.close()
        await self._set(Faults())
        await self._cut()
        for connection in self._orphans:
            self._abort(connection)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _set(self, faults: Faults) -> None:
        self._faults = faults
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _cut(self) -> None:
        for connection in list(self._connections):
            self._abort(connection)

    async def _orphan(self) -> None:
        for connection in list(self._connections):
            connection.up.held = True
            self._connections.discard(connection)
            self._orphans.append(connection)
            _reset(connection.down.writer)

    async def _deliver_orphans(self) -> None:
        orphans, self._orphans = self._orphans, []
        for connection in orphans:
            connection.up.held = False
        await self._set(self._faults)
        for connection in orphans:
            await asyncio.wait([connection.tasks[1]], timeout=2)
            self._abort(connection)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self.connections_seen += 1
        host, _, port = self.target.rpartition(":")
        if self._faults.refuse:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port), limit=BUFFER)
        except OSError:
            _reset(writer)
            return
        for end in (writer, server_writer):
            _small_buffers(end)
        connection = _Connection(_Pipe("up", reader, server_writer), _Pipe("down", server_reader, writer))
        self._connections.add(connection)
        for pipe in (connection.up, connection.down):
            connection.tasks += [
                asyncio.create_task(self._read(pipe)),
                asyncio.create_task(self._write(pipe)),
            ]
        await asyncio.wait([connection.tasks[1], connection.tasks[3]], return_when=asyncio.FIRST_COMPLETED)
        if connection not in self._orphans:
            self._abort(connection)

    async def _read(self, pipe: _Pipe) -> None:
        """From the sender into the line, at the rate of the link."""
        with contextlib.suppress(OSError):
            while chunk := await pipe.reader.read(CHUNK):
                await self._admit(pipe, len(chunk))
                if passed := self._damaged(pipe.frames.passed(chunk, self._is_lost)):
                    await pipe.line.put((self._loop.time() + self._faults.delay_s, passed))
                if pipe.name == "up":
                    with self._took:
                        self._taken += len(chunk)
                        self._took.notify_all()
        await pipe.line.put((0.0, b""))

    async def _write(self, pipe: _Pipe) -> None:
        """Out of the line, when its time has come."""
        with contextlib.suppress(OSError):
            while True:
                due, chunk = await pipe.line.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                while pipe.held or self._faults.stalled:
                    await self._changed.wait()
                if not chunk:
                    break
                pipe.writer.write(chunk)
                await pipe.writer.drain()

    async def _admit(self, pipe: _Pipe, num_bytes: int) -> None:
        """Wait for the link: all connections share its rate in one direction."""
        while self._faults.stalled:
            await self._changed.wait()
        bps = self._faults.up_bps if pipe.name == "up" else self._faults.down_bps
        if bps is None:
            return
        now = self._loop.time()
        self._free_at[pipe.name] = max(now, self._free_at[pipe.name]) + 8 * num_bytes / bps
        await asyncio.sleep(self._free_at[pipe.name] - now)

    def _is_lost(self) -> bool:
        every = self._faults.lose_every
        lost = bool(every) and self._dice.random() < 1 / every
        self.lost += lost
        return lost

    def _damaged(self, chunk: bytes) -> bytes:
        every = self._faults.corrupt_every
        if not every or self._dice.random() > len(chunk) / every:
            return chunk
        damaged = bytearray(chunk)
        damaged[self._dice.randrange(len(chunk))] ^= 1 << self._dice.randrange(8)
        return bytes(damaged)

    def _abort(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for task in connection.tasks:
            task.cancel()
        for pipe in (connection.up, connection.down):
            _reset(pipe.writer)


@contextmanager
def fault_proxy(target: str, seed: int = 0, port: int = 0) -> Iterator[FaultProxy]:
    """A proxy on a free loopback port (or that one) in front of host:port."""
    proxy = FaultProxy(target, seed)
    proxy.port = port
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _small_buffers(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.transport.set_write_buffer_limits(BUFFER)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, with what is buffered thrown away."""
    writer.transport.abort()

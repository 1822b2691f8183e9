"""The fault proxy does what it says: chaos proofs rest on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from fault_proxy import FaultProxy, fault_proxy
from http2_frames import DATA, PREFACE, SETTINGS, Http2Frames


class EchoServer:
    """Answers every byte with itself; `received` holds them all, in order of arrival."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.received = bytearray()
        self.arrived = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def wait_for(self, num_bytes: int) -> bytes:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= num_bytes, 10)
            return bytes(self.received)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    def _echo(self, peer: socket.socket) -> None:
        with peer:
            while True:
                try:
                    data = peer.recv(65536)
                    if not data:
                        return
                    with self.arrived:
                        self.received += data
                        self.arrived.notify_all()
                    peer.sendall(data)
                except OSError:
                    return


@pytest.fixture
def server() -> Iterator[EchoServer]:
    echo = EchoServer()
    yield echo
    echo.listener.close()


@contextmanager
def connected(proxy: FaultProxy) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", proxy.port), timeout=10)) as client:
        yield client


def answer(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return receive(client, len(data))


def receive(client: socket.socket, num_bytes: int) -> bytes:
    data = b""
    while len(data) < num_bytes and (more := client.recv(65536)):
        data += more
    return data


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_healthy_proxy_changes_nothing(server: EchoServer) -> None:
    data = bytes(range(256)) * 200
    with fault_proxy(server.address) as proxy, connected(proxy) as client:
        assert answer(client, data) == data


def test_bandwidth_is_what_was_set(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy, connected(proxy) as client:
        proxy.set(up_bps=800_000)
        started = time.monotonic()
        answer(client, bytes(30_000))
        assert time.monotonic() - started >= 0.25  # no upper bound: a busy machine is no fault of the link


def test_delay_is_paid_both_ways(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy, connected(proxy) as client:
        proxy.set(delay_s=0.05)
        started = time.monotonic()
        answer(client, b"x")
        assert time.monotonic() - started >= 0.1


def test_a_stalled_link_is_silent_and_then_loses_nothing(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy, connected(proxy) as client:
        proxy.set(stalled=True)
        client.sendall(b"late")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.heal()
        assert receive(client, 4) == b"late"


def test_a_cut_resets_and_the_next_connection_works(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy:
        with connected(proxy) as client:
            answer(client, b"x")
            proxy.cut()
            assert ended(client)
        with connected(proxy) as client:
            assert answer(client, b"y") == b"y"


def test_refused_connections_end_at_once(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy:
        proxy.set(refuse=True)
        with connected(proxy) as client:
            assert ended(client)


def test_damage_is_repeatable_and_keeps_the_length(server: EchoServer) -> None:
    sent, seen = bytes(20_000), []
    for _ in range(2):
        with fault_proxy(server.address, seed=7) as proxy, connected(proxy) as client:
            proxy.set(corrupt_every=1000)
            seen.append(answer(client, sent))
    assert len(seen[0]) == len(seen[1]) == len(sent)
    assert seen[0] != sent


def test_orphans_arrive_behind_newer_connections(server: EchoServer) -> None:
    with fault_proxy(server.address) as proxy:
        with connected(proxy) as client:
            answer(client, b"1")
            proxy.orphan()
            with connected(proxy) as newer:
                answer(newer, b"3")
        assert server.wait_for(2) == b"13"
        with connected(proxy) as client:
            answer(client, b"4")
            proxy.set(delay_s=0.2)
            client.sendall(b"old")
            proxy.wait_until_taken(6)  # the bytes are in the line, not yet at the server
            proxy.orphan()
            proxy.set(delay_s=0.0)
            with connected(proxy) as newer:
                answer(newer, b"new")
            proxy.deliver_orphans()
        assert server.wait_for(9) == b"134newold"


def test_only_data_frames_of_http2_vanish_and_they_do_so_whole() -> None:
    def frame(kind: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload

    parts = [
        frame(SETTINGS, b""),
        frame(DATA, b"one"),
        frame(1, b"head"),
        frame(DATA, b"two"),
        frame(DATA, b""),
    ]
    for size in (1, 2, 7, 1000):
        for from_client in (True, False):
            sent = (PREFACE if from_client else b"") + b"".join(parts)
            frames, fates = Http2Frames(from_client=from_client), iter([False, True])
            first = max(size, 4)  # what it is shows in the first bytes
            chunks = [sent[:first], *(sent[at : at + size] for at in range(first, len(sent), size))]
            passed = b"".join(frames.passed(chunk, lambda fates=fates: next(fates)) for chunk in chunks)
            assert passed == sent.replace(parts[3], b"")
    tls = b"\x16\x03\x01" + bytes(40)
    assert Http2Frames(from_client=True).passed(tls, lambda: True) == tls
    assert Http2Frames(from_client=False).passed(tls, lambda: True) == tls

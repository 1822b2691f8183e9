"""The edge as a process: starts, says where it listens, serves a real socket, stops, refuses to start."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from edge_rig import JPEG_TYPE, picture
from tiny_pack import write_tiny_pack
from waiting import PAUSE_S

from edge.__main__ import listen, main
from edge.settings import EdgeSettings
from splitcodec.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "tiny"
    write_tiny_pack(folder)
    return folder


@contextmanager
def edge(*flags: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "--port=0", "--cloud-target=127.0.0.1:9", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    assert line["event"] == "listening"
    return int(line["http_port"])


def call(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {**JPEG_TYPE, **headers})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, data


def refused(*flags: str) -> str:
    """The log of an edge that must not start."""
    with edge(*flags) as process:
        out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    return log


@pytest.mark.slow
def test_life_of_a_process(pack: Path, tmp_path: Path) -> None:
    with edge(f"--pack={pack}", f"--state-dir={tmp_path}", "--max-picture-bytes=1000000") as process:
        port = port_of(process)
        assert call(port, "GET", "/healthz") == (200, b'{"status":"ok"}')
        assert json.loads(call(port, "GET", "/readyz")[1])["ready"] is True
        status, body = call(port, "POST", "/v1/frames", picture())
        assert (status, json.loads(body)["state"]) == (202, "spooled")
        # a client that sends everything before it reads must still get to read the refusal
        status, body = call(port, "POST", "/v1/frames", bytes(3_900_000))
        assert (status, json.loads(body)["title"]) == (413, "Picture too large")
        metrics = call(port, "GET", "/metrics")[1].decode()
        assert "process_resident_memory_bytes" in metrics
        assert (
            'splitcodec_edge_frames_total{camera="default",outcome="FrameTooLarge",task="detect"} 1.0'
            in metrics
        )
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert not [line for line in lines if line["level"] == "error"]
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert "frames wait on disk" in warning["message"]


@pytest.mark.slow
def test_sigterm_answers_who_waits_and_keeps_the_frame_for_the_next_start(pack: Path, tmp_path: Path) -> None:
    flags = (f"--pack={pack}", f"--state-dir={tmp_path}")
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as client:
        target = f"--cloud-target=127.0.0.1:{silent.getsockname()[1]}"
        with edge(*flags, target, "--deadline-s=100") as process:
            port = port_of(process)
            waiting = client.submit(call, port, "POST", "/v1/frames", picture())
            wait_until(lambda: b"splitcodec_edge_pending_frames 1.0" in call(port, "GET", "/metrics")[1])
            process.send_signal(signal.SIGTERM)
            status, body = waiting.result(60)
            _, log = process.communicate(timeout=60)
    assert (process.returncode, status) == (0, 202), log
    name = json.loads(body)["id"]
    with edge(*flags) as process:
        port = port_of(process)
        assert json.loads(call(port, "GET", "/readyz")[1])["spool"]["frames"] == 1
        assert json.loads(call(port, "GET", f"/v1/frames/{name}")[1])["state"] == "spooled"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(PAUSE_S)


@pytest.mark.slow
def test_a_signal_at_the_very_word_listening_stops_it(pack: Path, tmp_path: Path) -> None:
    code = """
import builtins, os, signal, sys
import edge.__main__ as service
def say_and_be_stopped(*words, **options):
    builtins.print(*words, **options)
    os.kill(os.getpid(), signal.SIGTERM)
service.print = say_and_be_stopped
service.main(sys.argv[1:])
"""
    flags = (f"--pack={pack}", f"--state-dir={tmp_path}", "--port=0", "--cloud-target=127.0.0.1:9")
    ended = subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["event"] == "listening"


@pytest.mark.slow
def test_a_second_edge_on_the_same_state_is_refused(pack: Path, tmp_path: Path) -> None:
    with edge(f"--pack={pack}", f"--state-dir={tmp_path}") as process:
        port_of(process)
        assert "another edge uses" in refused(f"--pack={pack}", f"--state-dir={tmp_path}")


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--host=0.0.0.0", "can be reached from outside"),
        ("--pack=/nowhere", "PackNotFound"),
        ("--task=segment", "task 'segment' is not in pack tiny"),
        ("--rate=7", "rate 7.0 is above 2.0"),
        ("--tls-cert=/nowhere.pem --tls-key=/nowhere.pem", "cannot be read"),
        ("--colour=red", "colour"),
    ],
)
def test_reasons_not_to_start(
    pack: Path,
    tmp_path: Path,
    flag: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.__main__.log_to_stderr", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        main([f"--pack={pack}", f"--state-dir={tmp_path}", "--port=0", *flag.split()])
    assert stopped.value.code == 2
    assert reason in caplog.text


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(EdgeSettings(port=port))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen(EdgeSettings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

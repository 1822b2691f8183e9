"""One service as a process that can be killed, stopped and started again at the same place."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServiceProcess:
    """`python -m module` with its port kept over restarts; stderr is appended to module.log."""

    def __init__(
        self,
        module: str,
        flags: list[str],
        folder: Path,
        env: dict[str, str] | None = None,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """host: address it binds; prefix: words before the command, such as `ip netns exec NAME`."""
        self.module = module
        self.flags = flags
        self.host = host
        self.port = free_port()
        self.starts = 0
        self._prefix = list(prefix)
        self._log = folder / f"{module}.log"
        self._folder = folder
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns once it says that it listens."""
        search = [str(ROOT), *filter(None, [self._env.get("PYTHONPATH"), os.environ.get("PYTHONPATH")])]
        env = {**os.environ, **self._env, "PYTHONPATH": os.pathsep.join(reversed(search))}
        place = (f"--host={self.host}", f"--port={self.port}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", self.module, *place, *self.flags],
                cwd=self._folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.starts += 1
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise RuntimeError(f"{self.module} did not start: {self.log_end()}")
        self.announced: dict[str, object] = json.loads(line)

    def kill(self) -> None:
        """As a power cut would: SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As systemd would: SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def log_end(self, lines: int = 5) -> str:
        return " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-lines:])

    def log_has(self, text: str) -> bool:
        return text in self._log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        return status


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def metric(address: str, name: str) -> float:
    """The sum of a metric's samples over all labels, 0 if it has none."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = (line for line in text.splitlines() if line.startswith((name + "{", name + " ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll a callable until it is true; TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout_s
    pause = 0.01
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(pause)
        pause = min(0.2, 2 * pause)

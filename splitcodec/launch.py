"""Both services as the processes a user would start, on free loopback ports, with an eye on their memory."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import splitcodec
from splitcodec.errors import RuntimeUnavailable

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
PORT_NAMES = ("http_port", "grpc_port", "metrics_port")


@dataclass(frozen=True)
class Service:
    """One running service: process id, its ports by name, and seconds from its start until it listened."""

    name: str
    pid: int
    ports: dict[str, int]
    start_s: float

    def resident_bytes(self) -> int | None:
        """Memory of the process that is in RAM now; None where the system does not tell."""
        return _status_bytes(self.pid, "VmRSS:")

    def cpu_seconds(self) -> float | None:
        """CPU time it has used so far, all threads; None where the system does not tell."""
        try:
            line = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        user, system = line.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int | None:
        """The most it ever was; None where the system does not tell."""
        return _status_bytes(self.pid, "VmHWM:")


@dataclass(frozen=True)
class Services:
    """An edge and the cloud it sends to."""

    edge: Service
    cloud: Service


@contextlib.contextmanager
def running_services(
    folder: Path, pack: str, engine: str, extra_edge: Sequence[str] = ()
) -> Iterator[Services]:
    """Start the cloud, then the edge; both end with the block. folder: for their state and logs.

    RuntimeUnavailable: one of them did not start; the message has the end of its log.
    """
    place = pack if pack == "default" else str(Path(pack).resolve())
    cloud_flags = [f"--packs={place}", f"--data-dir={folder / 'cloud'}", "--metrics-port=0"]
    with start_service("cloud", [*cloud_flags, f"--engine={engine}"], folder) as cloud:
        target = f"127.0.0.1:{cloud.ports['grpc_port']}"
        edge_flags = [f"--pack={place}", f"--state-dir={folder / 'edge'}", f"--cloud-target={target}"]
        with start_service("edge", [*edge_flags, f"--engine={engine}", *extra_edge], folder) as edge:
            yield Services(edge, cloud)


@contextlib.contextmanager
def start_service(module: str, flags: Sequence[str], folder: Path) -> Iterator[Service]:
    """Run `python -m module --port=0 flags` until the block ends; it must print its `listening` line."""
    log_path = folder / f"{module}.log"
    home = str(Path(splitcodec.__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    with log_path.open("wb") as log:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--port=0", *flags],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        ports = _wait_until_listening(process, module, log_path, started + START_TIMEOUT_S)
        yield Service(module, process.pid, ports, time.monotonic() - started)
    finally:
        _stop(process)


def _wait_until_listening(
    process: subprocess.Popen[bytes], name: str, log_path: Path, deadline: float
) -> dict[str, int]:
    """The ports of the service's `listening` line."""
    if process.stdout is None:
        raise RuntimeUnavailable(f"the {name} service has no standard output to read its port from")
    line = b""
    while not line.endswith(b"\n"):
        remaining = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([process.stdout], [], [], remaining)
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not piece:
            why = "ended" if ready else f"did not listen within {START_TIMEOUT_S:.0f} s"
            end = log_path.read_text(errors="replace").strip().splitlines()[-3:]
            raise RuntimeUnavailable(
                f"the {name} service {why}; the end of its log: {' | '.join(end) or '-'}"
            )
        line += piece
    announced = json.loads(line)
    return {key: int(announced[key]) for key in PORT_NAMES if key in announced}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _status_bytes(pid: int, field: str) -> int | None:
    """A kB field of /proc/PID/status in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None

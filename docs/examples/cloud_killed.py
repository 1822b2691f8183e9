"""Posts pictures to an edge while the cloud is killed again and again, and sees every result once.

A test from outside: both services run as processes, and nothing but the two clients looks at them.

    python docs/examples/cloud_killed.py --frames 200 --kills 5

The last line counts; the exit status is 1 if a frame was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from splitcodec.client import CloudClient, EdgeClient
from splitcodec.errors import SplitcodecError
from splitcodec.sample_photos import packaged_photos

PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """One of the two services, always at the same port."""

    def __init__(self, module: str, folder: Path, *flags: str) -> None:
        self.port = free_port()
        self._command = [sys.executable, "-m", module, f"--port={self.port}", "--threads=1", *flags]
        self._log = folder / f"{module}.log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log)
        if not self._process.stdout.readline():  # type: ignore[union-attr]  # the line says that it listens
            raise SystemExit(f"{self._command[2]} did not start; see {self._log}")

    def end(self, signum: int = signal.SIGTERM) -> None:
        self._process.send_signal(signum)
        self._process.communicate()


class Reader(threading.Thread):
    """Watches all results from the first one on; goes on behind its cursor when the cloud is back."""

    def __init__(self, target: str) -> None:
        super().__init__(daemon=True)
        self._target = target
        self.seen: list[tuple[str, int]] = []

    def run(self) -> None:
        with CloudClient(self._target) as cloud:
            for result in cloud.watch(after=0, without_output=True):
                self.seen.append((result.camera, result.seq))


@contextlib.contextmanager
def services(pack: str) -> Iterator[tuple[Process, Process]]:
    """A cloud and its edge; both end with the block."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        cloud = Process("cloud", folder, f"--packs={pack}", f"--data-dir={folder / 'c'}", "--metrics-port=0")
        stack.callback(cloud.end)
        target = f"--cloud-target=127.0.0.1:{cloud.port}"
        edge = Process("edge", folder, f"--pack={pack}", f"--state-dir={folder / 'e'}", target)
        stack.callback(edge.end)
        yield cloud, edge


def count(accepted: list[tuple[str, int]], seen: list[tuple[str, int]]) -> dict[str, int]:
    """What became of the frames that the edge said yes to; all are of one camera."""
    seqs = [seq for _, seq in seen]
    return {
        "accepted": len(accepted),
        "seen": len(seen),
        "lost": len(set(accepted) - set(seen)),
        "duplicated": sum(times - 1 for times in Counter(seen).values()) + len(accepted) - len(set(accepted)),
        "reordered": sum(after < before for before, after in itertools.pairwise(seqs)),
    }


def run(pack: str, frames: int, kills: int, seed: int) -> dict[str, int]:
    """One run; the seed says when the cloud is killed."""
    dice = random.Random(seed)
    deadly = set(dice.sample(range(1, frames), min(kills, frames - 1)))
    pictures = [photo.read_bytes() for photo in packaged_photos()]
    accepted: list[tuple[str, int]] = []
    with services(pack) as (cloud, edge), EdgeClient(f"http://127.0.0.1:{edge.port}") as client:
        reader = Reader(f"127.0.0.1:{cloud.port}")
        reader.start()
        for number in range(frames):
            if number in deadly:
                cloud.end(signal.SIGKILL)
            try:
                ticket = client.submit(pictures[number % len(pictures)], camera="door")
                accepted.append((ticket.camera, ticket.seq))
            except SplitcodecError as error:
                print(f"not accepted: {error}", file=sys.stderr)
            if number in deadly:
                cloud.start()
        deadline = time.monotonic() + PATIENCE_S
        while set(accepted) - set(reader.seen) and time.monotonic() < deadline:
            time.sleep(0.05)
        return count(accepted, list(reader.seen))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pack", default="default")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = run(options.pack, options.frames, options.kills, options.seed)
    print(" ".join(f"{name}={number}" for name, number in found.items()))
    return int(found["accepted"] == 0 or any(found[name] for name in ("lost", "duplicated", "reordered")))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m edge.spool_bench`: how fast frames become durable here, and what a long backlog costs.

The edge's own outbox and spool, without pictures and without a cloud: frames of random bytes go in as during
an outage, from as many clients at once as the edge serves, then come out in order and are acknowledged.
In between, whole edges start on that backlog. Prints one JSON object. `splitcodec bench spool` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry

from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.replies import Replies
from edge.spool import Spool
from edge.spool_file import SPOOL_FILE
from edge.spool_log import SpoolLog
from edge.spool_policy import SpoolLimits
from edge.spool_start import Start, starts
from edge.uplink import FrameKey, OutgoingFrame, Reply

CAMERAS: Final = 4
PLACES: Final = 16  # frames on the stream at once, as the cloud allows by default
SAMPLES: Final = 10  # of memory, each way
KEPT_WAIT: Final = 10  # every so many-th, so that the list itself is not what grows


@dataclass(frozen=True)
class BacklogMemory:
    """Frames on disk, and bytes of this process in RAM."""

    frames: int
    resident_bytes: int


@dataclass(frozen=True)
class SpoolFigures:
    """Frames per second; milliseconds from asking to being on disk; bytes. growth: memory of the backlog;
    starts: of a whole edge on an empty spool, and on this one."""

    frames: int
    frame_bytes: int
    writers: int
    in_per_second: float
    commit_ms_median: float
    commit_ms_p99: float
    frames_per_commit: float
    out_per_second: float
    out_of_order: int
    disk_bytes: int
    growth_bytes: int
    memory: list[BacklogMemory]
    starts: tuple[Start, Start]


class SpoolBench:
    """One run in a folder; belongs to an event loop."""

    def __init__(self, folder: Path, frames: int, frame_bytes: int, writers: int, pack: str) -> None:
        """pack: of the edges that start on the backlog."""
        self._pack = pack
        self._folder = folder
        self._frames = frames
        self._frame_bytes = frame_bytes
        self._writers = writers
        self._metrics = EdgeMetrics(CollectorRegistry())
        spool = Spool(folder, SpoolLimits(2**40, 1e9), self._metrics)
        self._log = SpoolLog(spool, self._metrics)
        self._outbox = Outbox(self._log)
        self._replies = Replies(self._outbox, self._metrics, patience_s=1e9)
        self._waits: list[float] = []
        self._memory: list[BacklogMemory] = []
        self._next = 0

    async def run(self) -> SpoolFigures:
        """All frames in, all frames out."""
        warm_up = min(1000, self._frames)
        await self._fill(warm_up)
        self._waits.clear()
        self._sample()
        started = time.perf_counter()
        for part in range(1, SAMPLES + 1):
            await self._fill(warm_up + (self._frames - warm_up) * part // SAMPLES)
            self._sample()
        seconds = max(time.perf_counter() - started, 1e-9)
        commits = self._commits()
        started_edges = await asyncio.to_thread(starts, self._folder / SPOOL_FILE, self._frames, self._pack)
        disk = sum(path.stat().st_size for path in self._folder.iterdir())
        started = time.perf_counter()
        disordered = await self._drain()
        drained = time.perf_counter() - started
        await self._outbox.stop()
        await self._log.stop()
        return SpoolFigures(
            frames=self._frames,
            frame_bytes=self._frame_bytes,
            writers=self._writers,
            in_per_second=round((self._frames - warm_up) / seconds, 1),
            commit_ms_median=round(1000 * float(np.percentile(self._waits or [0], 50)), 2),
            commit_ms_p99=round(1000 * float(np.percentile(self._waits or [0], 99)), 2),
            frames_per_commit=round(self._frames / commits, 1),
            out_per_second=round(self._frames / drained, 1),
            out_of_order=disordered,
            disk_bytes=disk,
            growth_bytes=max(one.resident_bytes for one in self._memory) - self._memory[0].resident_bytes,
            memory=self._memory,
            starts=started_edges,
        )

    async def _fill(self, until: int) -> None:
        await asyncio.gather(*(self._write(until) for _ in range(self._writers)))

    async def _write(self, until: int) -> None:
        dice = np.random.default_rng(self._next)
        while self._next < until:
            number, self._next = self._next, self._next + 1
            camera, seq = f"cam{number % CAMERAS}", number // CAMERAS
            frame = OutgoingFrame("bench", camera, seq, "detect", 1 + number, dice.bytes(self._frame_bytes))
            entry = self._outbox.add(frame, wait=False)
            started = time.perf_counter()
            await self._outbox.keep(entry)
            if number % KEPT_WAIT == 0:
                self._waits.append(time.perf_counter() - started)

    async def _drain(self) -> int:
        """Take everything out in order, acknowledged like a cloud would; how many came out of order."""
        await self._outbox.find_backlog()
        self._outbox.opened()
        newest: dict[str, int] = {}
        sent: list[FrameKey] = []  # since the last acknowledgement
        disordered = 0
        for number in range(self._frames):
            frame = await self._outbox.next(PLACES)
            disordered += frame.seq != newest.get(frame.camera, -1) + 1
            newest[frame.camera] = frame.seq
            sent.append(FrameKey("bench", frame.camera, frame.seq))
            if number % PLACES == PLACES - 1 or number == self._frames - 1:
                acks = tuple(FrameKey("bench", camera, seq) for camera, seq in newest.items())
                self._replies.apply(Reply((), (), acks, tuple(sent)))
                sent.clear()
            if number % max(1, self._frames // SAMPLES) == 0:
                self._sample()
        return disordered

    def _commits(self) -> float:
        return next(
            sample.value
            for family in self._metrics.spool_commit.collect()
            for sample in family.samples
            if sample.name.endswith("_count")
        )

    def _sample(self) -> None:
        self._memory.append(BacklogMemory(self._log.depth.frames, resident_bytes()))


def resident_bytes() -> int:
    """Bytes of this process in RAM; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


async def measure(folder: Path, frames: int, frame_bytes: int, writers: int, pack: str) -> SpoolFigures:
    """One run with a new spool under `folder`, which is removed again."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-", dir=folder) as place:
        return await SpoolBench(Path(place), frames, frame_bytes, writers, pack).run()


def main(arguments: list[str] | None = None) -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(prog="edge.spool_bench", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to try")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--frame-bytes", type=int, default=4096)
    parser.add_argument("--writers", type=int, default=16, help="clients that wait at the same time")
    parser.add_argument("--pack", default="default", help="of the edges that start on the backlog")
    options = parser.parse_args(arguments)
    asked = (options.frames, options.frame_bytes, options.writers, options.pack)
    figures = asyncio.run(measure(options.folder, *asked))
    print(json.dumps(asdict(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

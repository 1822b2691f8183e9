"""A spool in a folder that a test can fill, damage, close or crash, and open again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge.metrics import EdgeMetrics
from edge.spool import Spool
from edge.spool_file import SPOOL_FILE
from edge.spool_policy import SpoolLimits
from edge.uplink import OutgoingFrame
from splitcodec.errors import SpoolFull

ROOMY = SpoolLimits(2**30, 86_400)
DOOR = ("box", "door")


def outgoing(seq: int, camera: str = "door", num_bytes: int = 100) -> OutgoingFrame:
    """A key frame, as far as the spool looks at it."""
    data = b"\x8b" + bytes([seq % 256]) * (num_bytes - 1)
    return OutgoingFrame("box", camera, seq, "detect", 1000 + seq, data)


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A spool in a folder that can be closed and opened again."""

    def __init__(self, folder: Path, limits: SpoolLimits = ROOMY) -> None:
        self.folder = folder
        self.limits = limits
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.metrics = EdgeMetrics(self.registry)
        self.spool = self._open()

    def _open(self) -> Spool:
        return Spool(self.folder, self.limits, self.metrics, self.clock)

    def reopen(self, *, crash: bool = False) -> None:
        if not crash:
            self.spool.close()
        self.spool = self._open()

    def put(self, frames: Sequence[OutgoingFrame], worth: int = 0) -> None:
        with self.spool.transaction():
            for frame in frames:
                self.spool.put(frame, worth)

    def fill(self, camera: str = "door", start: int = 0, worth: int = 0) -> int:
        """Frames of 4 kB, one per transaction, until one is refused or drops others; how many went in."""
        seq = start
        while self.counted("dropped") == 0:
            try:
                self.put([outgoing(seq, camera, 4000)], worth)
            except SpoolFull:
                return seq - start
            seq += 1
        return seq - start

    def seqs(self, lane: tuple[str, str] = DOOR, after: int = -1, limit: int = 10_000) -> list[int]:
        with self.spool.transaction():
            return [frame.seq for frame in self.spool.take(lane, after, limit)]

    def fate(self, seq: int, camera: str = "door") -> tuple[str, str] | None:
        with self.spool.transaction():
            found = self.spool.find(camera, seq)
        return None if found is None else (found.state, found.reason)

    def counted(self, what: str, reason: str | None = None) -> float:
        name = f"splitcodec_edge_spool_{what}_total"
        samples = [s for family in self.registry.collect() for s in family.samples if s.name == name]
        return sum(s.value for s in samples if reason in (None, s.labels["reason"]))

    @property
    def path(self) -> Path:
        return self.folder / SPOOL_FILE

    def edit(self, statement: str, *values: object) -> int:
        """Change the file behind the spool's back; how many rows."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(statement, values).rowcount
        finally:
            connection.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.spool.close()

"""An outbox over a real spool, without a cloud: the test plays delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge.lane import CameraLane, Entry
from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.replies import Replies
from edge.spool import Spool
from edge.spool_log import SpoolLog
from edge.spool_policy import SpoolLimits
from edge.turns import Turns
from edge.uplink import FrameKey, OutgoingFrame, Refused, Reply

PLACES = 16


class WatchedTurns(Turns):
    """Says that no frame may leave."""

    def __init__(self, waits: asyncio.Event) -> None:
        super().__init__()
        self._waits = waits

    def until_something(self, lanes: Collection[CameraLane], now: float) -> float | None:
        self._waits.set()
        return super().until_something(lanes, now)


class WatchedOutbox(Outbox):
    """Says that it has looked for a frame to send and found none."""

    def __init__(self, spool: SpoolLog) -> None:
        super().__init__(spool)
        self.waits = asyncio.Event()
        self._turns = WatchedTurns(self.waits)


class Bench:
    """An outbox over a real spool, without a cloud: the test plays delivery."""

    def __init__(self, folder: Path, limits: SpoolLimits) -> None:
        metrics = EdgeMetrics(CollectorRegistry())
        self.spool = SpoolLog(Spool(folder, limits, metrics), metrics)
        self.outbox = WatchedOutbox(self.spool)
        self.replies = Replies(self.outbox, metrics, patience_s=3600)
        self.sent: list[tuple[str, int]] = []

    def add(self, seq: int, camera: str = "door", *, wait: bool = True) -> Entry:
        return self.outbox.add(OutgoingFrame("box", camera, seq, "detect", 1, b"x" * 100), wait=wait)

    async def keep(self, *seqs: int, camera: str = "door") -> None:
        for seq in seqs:
            await self.outbox.keep(self.add(seq, camera, wait=False))

    async def open(self) -> None:
        await self.outbox.find_backlog()
        self.outbox.opened()

    async def next(self, places: int = PLACES) -> tuple[str, int]:
        frame = await asyncio.wait_for(self.outbox.next(places), 10)
        self.sent.append((frame.camera, frame.seq))
        return self.sent[-1]

    async def nothing_next(self, places: int = PLACES) -> bool:
        """Whether no frame may leave now, once all that was on its way to the disk is there."""
        await self.outbox.stop()
        await self.spool.run(lambda spool: None)
        self.outbox.waits.clear()
        taking = asyncio.create_task(self.outbox.next(places))
        waiting = asyncio.create_task(self.outbox.waits.wait())
        done, _ = await asyncio.wait([taking, waiting], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert done, "neither a frame nor none"
        for task in (taking, waiting):
            task.cancel()
        return taking not in done

    def ack(self, seq: int, camera: str = "door") -> list[int]:
        under_way = self.outbox.lane(("box", camera)).under_way
        spoken = tuple(FrameKey("box", camera, one) for one in under_way if one <= seq)
        reply = Reply((), (), (FrameKey("box", camera, seq),), spoken)
        return [key.seq for key in self.replies.apply(reply)]

    def refuse(self, seq: int, camera: str = "door", *, settled: bool = False) -> None:
        key = FrameKey("box", camera, seq)
        refused = Refused(key, settled, curable=True, passing=False, error="PackMismatch", message="deploy")
        self.replies.apply(Reply((), (refused,), (key,) if settled else ()))

    def in_memory(self) -> int:
        return sum(len(lane.entries) + len(lane.ready) for lane in self.outbox.lanes.values())


@asynccontextmanager
async def bench(folder: Path, limits: SpoolLimits | None = None) -> AsyncIterator[Bench]:
    made = Bench(folder, limits or SpoolLimits(2**30, 86_400))
    try:
        yield made
    finally:
        await made.outbox.stop()
        await made.spool.stop()

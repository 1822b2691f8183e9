"""What this edge still owes the cloud: frames in memory that somebody waits for, and frames on disk.

Frames of a camera leave in the order of their seq, whichever place they are in; between cameras,
`edge.turns` decides. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from edge.lane import CameraLane, Entry, UnderWay
from edge.posts import Post
from edge.spool import Spool
from edge.spool_log import SpoolLog
from edge.spool_types import Fate, Lane
from edge.turns import Turns
from edge.uplink import CloudAnswer, OutgoingFrame
from edge.waiting import wait_set
from splitcodec.errors import SpoolUnavailable

log = logging.getLogger(__name__)

READ_AHEAD: Final = 8  # frames of a camera in memory at once, besides those on the stream
RETRY_S: Final = 1.0  # pause before the disk is asked again


class Outbox:
    """Frames go in with `add` and `keep`; `edge.delivery` takes them out and tells what became of them."""

    def __init__(self, spool: SpoolLog) -> None:
        """`find_backlog` before anything is sent."""
        self.spool = spool
        self.lanes: dict[Lane, CameraLane] = {}
        self.why_away = "no connection was made yet"  # empty while a stream is open
        self.last_error = ""  # why the last stream ended, or was not opened
        self.cloud_holds = False  # whether the cloud took frames that hold cells when last asked
        self.moved = asyncio.Event()  # a frame was settled, also on disk, or the stream ended
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._away: asyncio.Future[str] = self._loop.create_future()
        self._turns = Turns()
        self._under_way_bytes = 0  # from disk
        self._progress_at = 0.0
        self._backlog_known = False
        self._undone: list[Callable[[Spool], object]] = []
        self._writing: set[asyncio.Task[None]] = set()

    # --- for the pipeline

    def add(self, frame: OutgoingFrame, *, wait: bool, post: Post | None = None) -> Entry:
        """Take a new frame, in the order of seq. Unless `wait`, it leaves only once `keep` is done."""
        answer: asyncio.Future[CloudAnswer] = self._loop.create_future()
        entry = Entry(frame, answer, self._loop.create_future(), may_leave=wait, awaited=wait, post=post)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # none goes unread
        self.lane((frame.device, frame.camera)).entries[frame.seq] = entry
        self._changed.set()
        return entry

    async def wait(self, entry: Entry, timeout_s: float) -> CloudAnswer | str:
        """The answer, or why there is none yet: the cloud is away, slow, or refuses for now. CloudRefused."""
        lane = self.lane((entry.frame.device, entry.frame.camera))
        if lane.is_held(self._loop.time()):
            entry.postpone(lane.held_for)
        signs: list[asyncio.Future[Any]] = [entry.answer, entry.postponed, self._away]
        await asyncio.wait(signs, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        entry.awaited = False
        for sign in signs:
            if sign.done():
                said: CloudAnswer | str = sign.result()
                return said
        return f"the cloud did not answer within {timeout_s} s"

    async def keep(self, entry: Entry) -> None:
        """Returns once the frame is on disk; one that is awaited stays in memory too.

        SpoolFull, SpoolUnavailable: it is not on disk, and is forgotten.
        """
        lane, seq = self.lane((entry.frame.device, entry.frame.camera)), entry.frame.seq
        entry.on_disk = True
        stays = not lane.backlogged and lane.unsent() <= READ_AHEAD and (entry.awaited or not self.why_away)
        handed_out = stays or seq in lane.under_way
        try:
            await self.spool.run(lambda spool: spool.put(entry.frame, lane.worth, handed_out, entry.post))
        except BaseException as error:
            self.forget(entry)
            if isinstance(error, asyncio.CancelledError):
                lane.came_to_disk(seq)
            raise
        if lane.entries.get(seq) is entry and seq not in lane.under_way:
            if stays and (entry.awaited or not (self.why_away or lane.backlogged)):
                entry.may_leave = True
            else:
                del lane.entries[seq]
                lane.came_to_disk(seq)
        self._changed.set()

    def forget(self, entry: Entry) -> None:
        """Nobody waits for this frame, and it was not put on disk."""
        entry.on_disk = entry.awaited = False
        self.lane((entry.frame.device, entry.frame.camera)).entries.pop(entry.frame.seq, None)
        self._changed.set()

    def came_back(self, name: Lane, seq: int) -> None:
        """A frame that had been set aside is in the queue again, before others that may have left already."""
        lane = self.lane(name)
        lane.came_to_disk(seq)
        lane.rewinding = True
        self._changed.set()

    async def fate(self, camera: str, seq: int) -> Fate | None:
        """sent, spooled, quarantined or dropped; None if it was answered, forgotten or never here."""
        for (device, name), lane in self.lanes.items():
            if name == camera and seq in lane.under_way:
                return Fate(device, "sent", "")
        return await self.spool.run(lambda spool: spool.find(camera, seq))

    def backlog_bytes(self) -> int:
        """Bytes of bitstreams that are on disk and not on the stream. For any thread."""
        return max(self.spool.depth.num_bytes - self._under_way_bytes, 0)

    @property
    def empty(self) -> bool:
        """Nothing is owed."""
        in_memory = any(lane.entries or lane.under_way or lane.backlogged for lane in self.lanes.values())
        return not in_memory and not self._writing and self.spool.depth.frames == 0

    def drop_idle_lanes(self, is_served: Callable[[str], bool]) -> None:
        """Forget the lanes of cameras that are served no more, once they owe nothing."""
        for name in [name for name, lane in self.lanes.items() if lane.idle and not is_served(name[1])]:
            del self.lanes[name]

    # --- for delivery

    def opened(self, held_frames: bool = False) -> None:
        """The cloud has accepted a stream; held_frames: it decodes frames that hold cells."""
        self.cloud_holds = held_frames
        self._progress_at = self._loop.time()
        self.why_away = ""
        if self._away.done():
            self._away = self._loop.create_future()
        self._changed.set()

    def closed(self, why: str) -> None:
        """The stream ended; nothing is on it any more. Call `find_backlog` before the next one."""
        self.why_away = self.last_error = why
        self._under_way_bytes = 0
        for lane in self.lanes.values():
            lane.stream_ended()
        self.moved.set()

    def give_no_hope(self, why: str) -> None:
        """Nobody waits for the cloud any longer, until a stream is open again."""
        if not self._away.done():
            self._away.set_result(why)

    async def find_backlog(self) -> None:
        """Look up which cameras have frames on disk; if the disk fails, `tend` tries again."""
        self._backlog_known = False
        try:
            lanes = await self.spool.run(_rewound)
        except SpoolUnavailable as error:
            log.warning("%s", error)
            return
        self._backlog_known = True
        for name in lanes:
            self.lane(name).more = True
        self._changed.set()

    async def next(self, places: int) -> OutgoingFrame:
        """The next frame to send, as soon as there is one and fewer than `places` are under way; it is
        under way from here on."""
        while True:
            self._changed.clear()
            lane = self._turns.choose(self.lanes.values(), places, self._loop.time())
            if lane is None:
                pause = self._turns.until_something(self.lanes.values(), self._loop.time())
                await wait_set(self._changed, pause)
            elif lane.must_read:
                await self._read(lane)
            elif (chosen := lane.next()) is not None:
                return self._send(lane, chosen)

    def left_stream(self, one: UnderWay) -> None:
        """It was acknowledged."""
        if one.from_disk:
            self._under_way_bytes -= len(one.frame.bitstream)

    def note_progress(self) -> None:
        """The cloud spoke."""
        self._progress_at = self._loop.time()
        self._changed.set()
        self.moved.set()

    def silent_for(self) -> float:
        """Seconds for which the cloud has owed a reply."""
        if not any(lane.under_way for lane in self.lanes.values()):
            self._progress_at = self._loop.time()
        return self._loop.time() - self._progress_at

    async def tend(self, expire: bool) -> None:
        """Try again what the disk refused, and look at the age limit if asked to."""
        undone, self._undone = self._undone, []
        try:
            while undone:
                await self._write(undone.pop(0))
        finally:
            self._undone = undone + self._undone  # what an error left out
        if not self._backlog_known:
            await self.find_backlog()
        if expire:
            await self._write(lambda spool: spool.expire())

    async def stop(self) -> None:
        """Wait for what is being written."""
        while self._writing:
            await asyncio.wait(self._writing)

    # --- for edge.replies

    def lane(self, name: Lane) -> CameraLane:
        """The camera's lane; a new one if it has none."""
        if name not in self.lanes:
            self.lanes[name] = CameraLane(name)
        return self.lanes[name]

    def write(self, work: Callable[[Spool], object]) -> None:
        """Let the spool do it, in the order of the calls; tried again if the disk fails."""
        task = asyncio.create_task(self._write(work))
        self._writing.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the spool failed on what the cloud said; frames may be sent again", exc_info=error)
            self.spool.count_failure()
        self.moved.set()

    async def _write(self, work: Callable[[Spool], object]) -> None:
        try:
            await self.spool.run(work)
        except SpoolUnavailable as error:
            log.warning("%s; tried again later", error)
            self._undone.append(work)

    async def _read(self, lane: CameraLane) -> None:
        after, lane.reading = lane.start_read(), True
        try:
            frames = await self.spool.run(lambda spool: spool.take(lane.name, after, READ_AHEAD))
        except SpoolUnavailable as error:
            log.warning("%s", error)
            lane.more = True
            lane.hold(self._loop.time() + RETRY_S, str(error))
        else:
            lane.end_read(frames, READ_AHEAD)
        finally:
            lane.reading = False

    def _send(self, lane: CameraLane, chosen: Entry | OutgoingFrame) -> OutgoingFrame:
        from_disk = isinstance(chosen, OutgoingFrame)
        frame = chosen if isinstance(chosen, OutgoingFrame) else chosen.frame
        if from_disk:
            lane.ready.popleft()
        if not any(one.under_way for one in self.lanes.values()):
            self._progress_at = self._loop.time()
        self._turns.take(lane)
        lane.sent_up_to = frame.seq
        lane.under_way[frame.seq] = UnderWay(frame, self._loop.time(), from_disk)
        if from_disk:
            self._under_way_bytes += len(frame.bitstream)
        return frame


def _rewound(spool: Spool) -> list[Lane]:
    spool.rewind()
    return list(spool.lanes())

"""One camera's frames on their way: in memory, read from disk, on the stream; seqs rise in each of them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from edge.posts import Post
from edge.spool_types import Lane
from edge.uplink import CloudAnswer, OutgoingFrame, Refused

HOLD_S: Final = (0.5, 30.0)  # first and longest pause of a camera after its frame was refused


@dataclass(eq=False)
class Entry:
    """A frame in memory.

    answer: done with a CloudAnswer or CloudRefused once the cloud spoke; postponed: done with the reason once
    waiting is in vain. awaited: somebody waits for the answer. on_disk: it is there, or about to be.
    """

    frame: OutgoingFrame
    answer: asyncio.Future[CloudAnswer]
    postponed: asyncio.Future[str]
    may_leave: bool  # False: only once it is on disk
    awaited: bool = False
    on_disk: bool = False
    post: Post | None = None  # the request of its key, if it has one

    def postpone(self, why: str) -> None:
        """Waiting is in vain."""
        if not self.postponed.done():
            self.postponed.set_result(why)


@dataclass(eq=False)
class UnderWay:
    """A frame on the stream, not yet acknowledged; sent_at: of the event loop's clock."""

    frame: OutgoingFrame
    sent_at: float
    from_disk: bool
    answered: bool = False
    refused: Refused | None = None


@dataclass(eq=False)
class Refusal:
    """A frame that the cloud refuses time after time; since: of the event loop's clock."""

    seq: int
    since: float
    times: int = 0

    @property
    def hold_s(self) -> float:
        """How long its camera pauses."""
        return min(HOLD_S[1], HOLD_S[0] * 2.0 ** min(self.times - 1, 16))


@dataclass(eq=False)
class CameraLane:
    """What one camera of one device has here. `more`: there may be frames on disk beyond `ready`; `reading`:
    the disk is being asked for them.
    """

    name: Lane
    entries: dict[int, Entry] = field(default_factory=dict)
    ready: deque[OutgoingFrame] = field(default_factory=deque)
    more: bool = False
    reading: bool = False
    sent_up_to: int = -1
    under_way: dict[int, UnderWay] = field(default_factory=dict)
    put_below: int | None = None  # lowest seq that was put on disk since the last read began
    held_until: float = 0.0
    held_for: str = ""  # why it is held, for those who wait
    refusal: Refusal | None = None
    given_up: str = ""  # the error for which a frame was quarantined, until one is answered
    worth: int = 0  # detections in the last answer
    turn: int = 0  # of its last sent frame
    rewinding: bool = False  # frames came back; the lowest goes next, once nothing is under way

    @property
    def backlogged(self) -> bool:
        """Whether frames wait on disk that are not in memory."""
        return self.more or bool(self.ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is kept here, nothing is under way, and nothing waits on disk."""
        return not (self.entries or self.under_way or self.backlogged or self.reading)

    @property
    def must_read(self) -> bool:
        """Whether the next frame cannot be known without a look at the disk."""
        return self.more and not self.ready

    def unsent(self) -> int:
        """Frames in memory that are not on the stream."""
        return sum(seq > self.sent_up_to for seq in self.entries)

    def is_held(self, now: float) -> bool:
        """Whether it pauses after a refusal."""
        return now < self.held_until

    def may_send(self, now: float) -> bool:
        """False while it pauses, or waits to begin again with its lowest frame."""
        if self.rewinding and not self.under_way:
            self.rewinding, self.more, self.sent_up_to = False, True, -1
            self.ready.clear()
        return not (self.rewinding or self.is_held(now))

    def hold(self, until: float, why: str) -> None:
        """Pause, and let nobody wait for this camera's frames meanwhile."""
        self.held_until, self.held_for = until, why
        for entry in self.entries.values():
            entry.postpone(why)

    def next(self) -> Entry | OutgoingFrame | None:
        """The frame of the lowest seq that was not sent; None if there is none, or it may not leave yet."""
        while self.ready and self.ready[0].seq <= self.sent_up_to:
            self.ready.popleft()
        entry = next((one for seq, one in self.entries.items() if seq > self.sent_up_to), None)
        if entry is None or (self.ready and self.ready[0].seq < entry.frame.seq):
            return self.ready[0] if self.ready else None
        return entry if entry.may_leave else None

    def start_read(self) -> int:
        """The seq to read after; what is put on disk from here on is noticed."""
        self.more, self.put_below = False, None
        return max(self.sent_up_to, self.ready[-1].seq if self.ready else -1)

    def end_read(self, frames: list[OutgoingFrame], asked: int) -> None:
        """Take what was read, unless a frame that belongs before it came to disk meanwhile."""
        if frames and self.put_below is not None and self.put_below < frames[-1].seq:
            self.more = True
            return
        self.ready.extend(frames)
        self.more = self.more or len(frames) == asked

    def came_to_disk(self, seq: int) -> None:
        """A frame was put on disk and is not in memory any more."""
        self.put_below = seq if self.put_below is None else min(seq, self.put_below)
        self.more = True
        if self.ready and seq < self.ready[-1].seq:
            self.ready.clear()

    def put_back(self, entry: Entry) -> None:
        """Send a frame for whom somebody waits and that the disk has just refused."""
        entry.may_leave = entry.awaited = True
        self.entries[entry.frame.seq] = entry
        self.entries = dict(sorted(self.entries.items()))

    def fall_back(self) -> None:
        """Frames that are on disk leave the memory, unless they are on the stream."""
        for seq, entry in list(self.entries.items()):
            if entry.on_disk and entry.may_leave and seq not in self.under_way and not entry.awaited:
                del self.entries[seq]
                self.came_to_disk(seq)

    def stream_ended(self) -> None:
        """Nothing is on a stream any more; everything will be sent again."""
        self.under_way.clear()
        self.ready.clear()
        self.sent_up_to = -1
        self.fall_back()

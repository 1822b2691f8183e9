"""One frame's way through the outbox: live, or over the disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from edge.lane import Entry
from edge.outbox import Outbox
from edge.posts import Post
from edge.reporting import frame_id
from edge.uplink import CloudAnswer, OutgoingFrame
from splitcodec.errors import SpoolFull, SpoolUnavailable

log = logging.getLogger(__name__)
AS_ASKED: Final = "as asked for"
_BEHIND: Final = "frames of its camera wait on disk before it"


class Sender:
    """Puts frames into an outbox and waits for what becomes of them. Belongs to its event loop."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def hand_over(
        self, frame: OutgoingFrame, wait_s: float, post: Post | None = None, *, keep_first: bool = False
    ) -> Entry:
        """Begins to send a frame; `answer` is to follow. wait_s: how long it will wait.

        keep_first: the frame is put on disk before it leaves, while the disk takes it; so is that of a post.
        SpoolFull, SpoolUnavailable: it was not kept. StateMismatch: it builds on one that was dropped.
        """
        keep_first = keep_first or post is not None
        entry = self._outbox.add(frame, wait=wait_s > 0 and not keep_first, post=post)
        if keep_first:
            with self._forgetting(entry):
                await self._keep_first(entry, post, wait_s)
        return entry

    async def answer(self, entry: Entry, wait_s: float) -> CloudAnswer | str:
        """The cloud's answer, or why there is none within wait_s: then the frame is on disk.

        CloudRefused; SpoolFull, SpoolUnavailable: there is no answer, and the frame was not kept.
        """
        with self._forgetting(entry):
            said = await self._outbox.wait(entry, wait_s) if wait_s > 0 else AS_ASKED
            if isinstance(said, str) and not entry.on_disk:
                await self._outbox.keep(entry)
        return said

    @contextmanager
    def _forgetting(self, entry: Entry) -> Iterator[None]:
        """A frame for which the body fails, and that is not on disk, was never here."""
        try:
            yield
        except BaseException:
            entry.awaited = False
            if not entry.on_disk:
                self._outbox.forget(entry)
            raise

    async def _keep_first(self, entry: Entry, post: Post | None, wait_s: float) -> None:
        frame, entry.awaited = entry.frame, wait_s > 0
        lane = self._outbox.lane((frame.device, frame.camera))
        try:
            await self._outbox.keep(entry)
        except (SpoolFull, SpoolUnavailable) as error:
            if wait_s == 0:
                raise
            log.warning("%s; %s is in memory only", error, frame_id(frame.camera, frame.seq))
            lane.put_back(entry)
            return
        if post is not None:
            post.frame = frame_id(frame.camera, frame.seq)
        if lane.entries.get(frame.seq) is not entry:
            entry.postpone(self._outbox.why_away or _BEHIND)

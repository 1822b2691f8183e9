"""One frame's way through the outbox: live, or over the disk."""

from __future__ import annotations

import logging
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

    async def send(self, frame: OutgoingFrame, wait_s: float, post: Post | None = None) -> CloudAnswer | str:
        """The cloud's answer, or why there is none within wait_s: then the frame is on disk.

        post: its frame is put on disk before it leaves, while the disk takes it.
        CloudRefused; SpoolFull, SpoolUnavailable: there is no answer, and the frame was not kept.
        """
        entry = self._outbox.add(frame, wait=wait_s > 0 and post is None, post=post)
        try:
            if post is not None:
                await self._keep_first(entry, post, wait_s)
            said = await self._outbox.wait(entry, wait_s) if wait_s > 0 else AS_ASKED
            if isinstance(said, str) and not entry.on_disk:
                await self._outbox.keep(entry)
        except BaseException:
            entry.awaited = False
            if not entry.on_disk:
                self._outbox.forget(entry)
            raise
        return said

    async def _keep_first(self, entry: Entry, post: Post, wait_s: float) -> None:
        frame, entry.awaited = entry.frame, wait_s > 0
        lane = self._outbox.lane((frame.device, frame.camera))
        try:
            await self._outbox.keep(entry)
        except (SpoolFull, SpoolUnavailable) as error:
            if wait_s == 0:
                raise
            log.warning("%s; the key of %s is in memory only", error, frame_id(frame.camera, frame.seq))
            lane.put_back(entry)
            return
        post.frame = frame_id(frame.camera, frame.seq)
        if lane.entries.get(frame.seq) is not entry:
            entry.postpone(self._outbox.why_away or _BEHIND)

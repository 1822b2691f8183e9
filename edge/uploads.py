"""Uploads that are arriving: one budget of bytes for all together, and an end for each when the edge stops.

Where the budget does not suffice, the upload that holds most of it is refused. So whoever sends much and
never ends it cannot keep a camera's picture out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from splitcodec.errors import QueueFull, ServiceStopping, SplitcodecError


class Uploads:
    """Belongs to one event loop. Bodies on their way in hold at most max_bytes; a whole one counts not."""

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: of all bodies together while they arrive."""
        self._max_bytes = max_bytes
        self._arriving: list[Upload] = []
        self._stopping = False
        self.held_bytes = 0

    @contextmanager
    def begin(self) -> Iterator[Upload]:
        """One upload, until the block ends; what it held is given back then. ServiceStopping."""
        if self._stopping:
            raise _stopping()
        upload = Upload(self)
        self._arriving.append(upload)
        try:
            yield upload
        finally:
            upload.give_back()
            self._arriving.remove(upload)

    def stop(self) -> None:
        """No more uploads, and those that are arriving end now: ServiceStopping."""
        self._stopping = True
        for upload in self._arriving:
            upload.cut(_stopping())

    def charge(self, num_bytes: int) -> None:
        """For Upload: more bytes are held; over the budget the largest uploads are cut."""
        self.held_bytes += num_bytes
        while self.held_bytes > self._max_bytes:
            held = self.held_bytes
            largest = max(self._arriving, key=lambda upload: upload.num_bytes)
            largest.cut(
                QueueFull(
                    f"{held} bytes of uploads are arriving, the limit is {self._max_bytes}, and this one is "
                    "the largest; send it again in a moment, or raise SPLITCODEC_EDGE_MAX_UPLOAD_BYTES"
                )
            )
            largest.give_back()


class Upload:
    """One body on its way in."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._cut: asyncio.Future[SplitcodecError] = asyncio.get_running_loop().create_future()
        self.num_bytes = 0

    def charge(self, num_bytes: int) -> None:
        """Hold so many bytes more. QueueFull, ServiceStopping: it was cut."""
        if not self._cut.done():
            self.num_bytes += num_bytes
            self._uploads.charge(num_bytes)
        if self._cut.done():
            raise self._cut.result()

    def give_back(self) -> None:
        """Hold nothing."""
        self._uploads.held_bytes -= self.num_bytes
        self.num_bytes = 0

    def cut(self, why: SplitcodecError) -> None:
        """End it, whatever it waits for."""
        if not self._cut.done():
            self._cut.set_result(why)

    async def run(self, work: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Until the work is done. asyncio.TimeoutError; QueueFull, ServiceStopping: it was cut."""
        task = asyncio.ensure_future(work)
        try:
            signs: list[asyncio.Future[Any]] = [task, self._cut]
            await asyncio.wait(signs, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self._cut.result() if self._cut.done() else asyncio.TimeoutError
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _stopping() -> ServiceStopping:
    return ServiceStopping("this edge is stopping; send it again in a moment")

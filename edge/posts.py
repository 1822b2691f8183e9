"""A POST that is repeated under its Idempotency-Key is the same frame.

The frame of a key is on disk, and its key with it, before it leaves; so a repeat finds it after a crash too.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from edge.report import FrameReport, FrameStatus
from edge.reporting import frame_id
from edge.uplink import OutgoingFrame
from splitcodec.errors import FrameConflict

KEY_PATTERN: Final = r"^[\x21-\x7e]{1,128}$"
KEPT_KEYS: Final = 4096
"""The last ones, in memory and on disk."""


@dataclass(eq=False)
class Post:
    """One request. digest: of all that its frame is made from; frame: its name, once the frame is kept."""

    key: str
    digest: bytes
    frame: str = ""
    repeated: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


def post_of(key: str, picture: bytes, *asked: object) -> Post:
    """A request for the frame of a picture; asked: what else the client wants of it."""
    digest = hashlib.sha256(repr(asked).encode())
    digest.update(picture)
    return Post(key, digest.digest())


class Posts:
    """The last KEPT_KEYS keys. Belongs to one event loop."""

    def __init__(self, kept: Iterable[tuple[str, bytes, str]] = ()) -> None:
        """kept: key, digest and frame of those on disk, oldest first."""
        self._posts = OrderedDict((key, Post(key, digest, frame)) for key, digest, frame in kept)
        for post in self._posts.values():
            post.ended.set()

    async def once(
        self,
        post: Post,
        make: Callable[[], Awaitable[FrameReport | FrameStatus]],
        find: Callable[[str], Awaitable[FrameReport | FrameStatus]],
    ) -> FrameReport | FrameStatus:
        """`make()` for a new key; for a repeat `find(frame)`, once the first request has ended.

        A key whose frame was not kept is new again. FrameConflict: it was given with something else.
        """
        while (known := self._posts.get(post.key)) is not None:
            if known.digest != post.digest:
                raise FrameConflict(
                    f"Idempotency-Key {post.key} came with another picture, camera, task or rate before; "
                    "make a new key for every picture"
                )
            await known.ended.wait()
            if known.frame:
                post.repeated = True
                return await find(known.frame)
        self._posts[post.key] = post
        try:
            outcome = await make()
            post.frame = outcome.id
            return outcome
        finally:
            post.ended.set()
            if not post.frame:
                del self._posts[post.key]
            while len(self._posts) > KEPT_KEYS:
                self._posts.popitem(last=False)


def remember(connection: sqlite3.Connection, post: Post, frame: OutgoingFrame) -> None:
    """Keep a key on disk, in the transaction that keeps its frame."""
    connection.execute(
        "INSERT OR REPLACE INTO posts (key, digest, device, camera, seq) VALUES (?, ?, ?, ?, ?)",
        (post.key, post.digest, frame.device, frame.camera, frame.seq),
    )
    connection.execute("DELETE FROM posts WHERE id <= (SELECT MAX(id) FROM posts) - ?", (KEPT_KEYS,))


def remembered(connection: sqlite3.Connection) -> list[tuple[str, bytes, str]]:
    """What `Posts` takes."""
    rows = connection.execute("SELECT key, digest, camera, seq FROM posts ORDER BY id")
    return [(key, digest, frame_id(camera, seq)) for key, digest, camera, seq in rows]


def forget_settled(connection: sqlite3.Connection) -> None:
    """Make room: the keys of frames that do not wait here go."""
    connection.execute(
        "DELETE FROM posts WHERE NOT EXISTS (SELECT 1 FROM frames WHERE frames.device = posts.device "
        "AND frames.camera = posts.camera AND frames.seq = posts.seq)"
    )

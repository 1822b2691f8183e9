"""From a picture to a frame in the outbox: coded by itself, or as a link of its camera's chain."""

from __future__ import annotations

from collections.abc import Callable

from edge.codec import Codec
from edge.coding import FrameCoder
from edge.lane import Entry
from edge.links import Links
from edge.orders import FrameOrder
from edge.posts import Post
from edge.reporting import CodedFrame
from edge.settings import EdgeSettings
from splitcodec.errors import StateMismatch


class Handover:
    """Belongs to one event loop."""

    def __init__(
        self,
        settings: EdgeSettings,
        codec: Codec,
        links: Links,
        coder: FrameCoder,
        compared: Callable[[], bool],
    ) -> None:
        """compared: whether frames are compared with JPEG now."""
        self._holds = settings.hold == "on" and codec.holds
        self._links = links
        self._coder = coder
        self._compared = compared

    async def take(
        self, order: FrameOrder, picture: bytes, content_type: str | None, wait_s: float, post: Post | None
    ) -> tuple[CodedFrame, Entry]:
        """The coded frame and its place in the outbox; see FrameCoder.code and Sender.hand_over."""
        if self._may_hold(order):
            return await self._linked(order, picture, content_type, wait_s, post)
        coded = await self._coder.code(order, picture, content_type, self._compared, None)
        return coded, await self._links.sender.hand_over(coded.frame, wait_s, post)

    def _may_hold(self, order: FrameOrder) -> bool:
        """Not under rate control, whose rates change from frame to frame."""
        if not (self._holds and self._links.outbox.cloud_holds):
            return False
        return order.rate is not None or not self._links.rates.has_target(order.camera)

    async def _linked(
        self, order: FrameOrder, picture: bytes, content_type: str | None, wait_s: float, post: Post | None
    ) -> tuple[CodedFrame, Entry]:
        """Code a frame in its camera's chain and put it on disk, where the next one finds it."""
        chains, sender = self._links.chains, self._links.sender
        async with chains.turn(order.camera) as turn:
            coded = await self._coder.code(order, picture, content_type, self._compared, turn)
            try:
                entry = await sender.hand_over(coded.frame, wait_s, post, keep_first=True)
            except StateMismatch:  # the spool has just dropped what it builds on
                turn.begin_anew()
                coded = await self._coder.code(order, picture, content_type, self._compared, turn)
                entry = await sender.hand_over(coded.frame, wait_s, post, keep_first=True)
            chains.end(order.camera, turn, coded.encoded, safe=entry.on_disk)
        return coded, entry

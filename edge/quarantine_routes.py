"""The HTTP interface to frames that were set aside: which there are, and back into the queue with them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from edge.dead_letters import Quarantine, QuarantineReport, Replay
from splitcodec.wire.names import NAME_PATTERN

MAX_LISTED: Final = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="frames at most, newest first")]
Camera = Annotated[str | None, Query(pattern=NAME_PATTERN, description="only those of one camera")]
Frame = Annotated[str | None, Query(max_length=200, description="only the frame with this id")]


def quarantine_routes(quarantine: Quarantine, responses: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Frames that are not sent any more."""
    router = APIRouter(prefix="/v1/quarantine", tags=["quarantine"], responses=responses)

    @router.get("")
    async def get_quarantine(limit: Limit = 100) -> QuarantineReport:
        """Frames that the cloud refused for good or for too long, or whose row on the disk was damaged."""
        return await quarantine.report(limit)

    @router.post("/replay")
    async def post_replay(camera: Camera = None, frame: Frame = None) -> Replay:
        """Send them again under their own ids, once what kept the cloud from taking them is cured."""
        return await quarantine.replay(camera, frame)

    return router

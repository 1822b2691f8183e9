"""The asyncio client of an edge: a picture in, the task's answer out."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final

from splitcodec.client import edge_calls
from splitcodec.client.answers import (
    CameraPrompt,
    EdgePrompt,
    FrameReport,
    FrameTicket,
    Quarantine,
    Readiness,
    Replay,
)
from splitcodec.client.credentials import Credentials
from splitcodec.client.exchange import AsyncExchange
from splitcodec.client.retry import Retry
from splitcodec.errors import DeadlineExceeded
from splitcodec.picture import Image

DEADLINE_S: Final = 15.0
POLL_S: Final = (0.05, 1.0)
"""First and longest pause between two looks at a frame that waits for the cloud."""
DETECT: Final = "detect"


class AsyncEdgeClient:
    """`async with AsyncEdgeClient("http://127.0.0.1:8080") as edge: await edge.detect(picture)`.

    Every method takes at most deadline_s, retries included, and raises the edge's own errors by their class
    in splitcodec.errors, EdgeUnavailable without a connection, DeadlineExceeded when the time is up.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        deadline_s: float = DEADLINE_S,
        retry: Retry | None = None,
    ) -> None:
        """url: http(s)://host:port. SettingsError: it is none, or the credentials do not fit it."""
        self._exchange = AsyncExchange(url, credentials or Credentials(), retry or Retry())
        self._deadline_s = deadline_s

    async def __aenter__(self) -> AsyncEdgeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def detect(
        self,
        image: Image,
        *,
        camera: str = "default",
        rate: float | None = None,
        key: str | None = None,
        deadline_s: float | None = None,
    ) -> FrameReport:
        """`infer` with task `detect`: boxes in `report.detections`, best first."""
        return await self.infer(image, task=DETECT, camera=camera, rate=rate, key=key, deadline_s=deadline_s)

    async def infer(
        self,
        image: Image,
        *,
        task: str | None = None,
        camera: str = "default",
        rate: float | None = None,
        key: str | None = None,
        deadline_s: float | None = None,
    ) -> FrameReport:
        """The answer to one picture; task and rate None take what the camera is set to. key: the same picture
        with the same key is the same frame, whoever posts it; by default a new one, for this call's retries.

        Where the edge had to keep the frame because the cloud is away, this waits for its answer;
        DeadlineExceeded then names the frame, which is not lost: `get(id)` has it later.
        """
        seconds = self._deadline_s if deadline_s is None else deadline_s
        end = time.monotonic() + seconds
        call = edge_calls.post_frame(image, camera, task, rate, key or self._exchange.retry.key(), wait=True)
        found = await self._exchange.run(call, seconds)
        pause = POLL_S[0]
        while (report := edge_calls.answered(found)) is None:
            left = end - time.monotonic()
            if left <= pause:
                raise still_waiting(found.id, seconds)
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_S[1])
            found = await self._exchange.run(edge_calls.get_frame(found.id), left)
        return report

    async def submit(
        self,
        image: Image,
        *,
        task: str | None = None,
        camera: str = "default",
        rate: float | None = None,
        key: str | None = None,
    ) -> FrameTicket:
        """Leave a picture with the edge; returns once the frame is on its disk. `get(ticket.id)` follows.

        key: as for `infer`.
        """
        call = edge_calls.post_frame(image, camera, task, rate, key or self._exchange.retry.key(), wait=False)
        found = await self._exchange.run(call, self._deadline_s)
        return edge_calls.ticket(found)

    async def get(self, frame_id: str) -> FrameReport | FrameTicket:
        """A recent frame: its report, or its ticket while it waits for the cloud. ResultNotFound."""
        return await self._exchange.run(edge_calls.get_frame(frame_id), self._deadline_s)

    async def overlay(self, frame_id: str) -> bytes:
        """The picture of a recent frame with its result drawn on it: JPEG. ResultNotFound."""
        return await self._exchange.run(edge_calls.get_overlay(frame_id), self._deadline_s)

    async def prompts(self) -> tuple[EdgePrompt, ...]:
        """The prompts the edge can encode with."""
        return await self._exchange.run(edge_calls.get_prompts(), self._deadline_s)

    async def set_prompt(
        self,
        camera: str,
        *,
        task: str | None = None,
        prompt_digest: str | None = None,
        rate: float | None = None,
        target_kbps: float | None = None,
        if_match: str | None = None,
    ) -> CameraPrompt:
        """Let the camera's frames from now on use a task, or one prompt whichever is active for its task,
        and a rate or a bitrate to keep to. if_match: `etag` of the answer that this builds on.

        UnknownTask, PromptNotFound, RateOutOfRange, StateChanged (somebody was faster than the holder of this
        etag), InvalidRequest (both or neither of task and prompt, both rates): the camera goes on as before.
        """
        choice = {"task": task, "prompt_digest": prompt_digest, "rate": rate, "target_kbps": target_kbps}
        return await self._exchange.run(edge_calls.put_prompt(camera, choice, if_match), self._deadline_s)

    async def quarantine(self, limit: int = 100) -> Quarantine:
        """The frames that the edge set aside, newest first: refused for good or too long, or damaged.

        limit: frames at most, 1 to 1000.
        """
        return await self._exchange.run(edge_calls.get_quarantine(limit), self._deadline_s)

    async def replay(self, camera: str | None = None, frame_id: str | None = None) -> Replay:
        """Send frames that were set aside again, under their own ids: all, those of a camera, or one frame.

        At most 1000 per call, `left` says how many more. InvalidRequest: both, or no frame's id.
        """
        return await self._exchange.run(edge_calls.post_replay(camera, frame_id), self._deadline_s)

    async def ready(self) -> Readiness:
        """What the edge serves, and how it stands with the cloud."""
        return await self._exchange.run(edge_calls.get_readiness(), self._deadline_s)


def still_waiting(frame_id: str, seconds: float) -> DeadlineExceeded:
    """The error of a frame that is kept but not answered in time."""
    return DeadlineExceeded(
        f"frame {frame_id} is kept by the edge, but the cloud did not answer within {seconds:g} s; "
        "get it by this id later"
    )

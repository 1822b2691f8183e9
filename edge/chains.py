"""What the next frame of a still camera builds on, so that cells which have not changed are not sent again.

A frame joins its camera's chain once it is safe on disk: whatever becomes of the client that posted it, the
cloud gets it, and gets it before those that build on it. So the frames of such a camera are coded and written
one after the other. Where a link of the chain may be missing, the next frame is a key frame.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from edge.metrics import EdgeMetrics
from splitcodec.codec import MAX_CHAIN_FRAMES, EncodedFrame, LatentState
from splitcodec.frame import Canvas
from splitcodec.prompts import Prompt

KeyReason = Literal["first", "interval", "changed", "refused", "unsafe"]
"""Why a frame is a key frame: none before it is known; a key frame is due; prompt, rate or size are new; the
cloud refused a frame; one may be missing on disk."""
MAX_STATE_BYTES: Final = 64 * 2**20  # of all cameras; those that were silent longest begin anew


@dataclass(eq=False)
class _Camera:
    state: LatentState | None = None
    key_at: float = 0.0
    why: KeyReason = "first"  # there is no state

    def __post_init__(self) -> None:
        self.lock = asyncio.Lock()

    def restart(self, why: KeyReason) -> None:
        self.state, self.why = None, why


class ChainTurn:
    """One frame's place in its camera's chain."""

    def __init__(self, camera: _Camera, due: bool) -> None:
        self._state = None if due else camera.state
        self.why: KeyReason = "interval" if due and camera.state is not None else camera.why
        self.key = False  # what came of it

    def state_for(self, prompt: Prompt, rate: float, canvas: Canvas) -> LatentState | None:
        """What the frame builds on; None: code a key frame."""
        state = self._state
        if state is not None and not _fits(state, prompt, rate, canvas):
            self.why, state = "changed", None
        self.key = state is None
        return state

    def begin_anew(self) -> None:
        """Code the frame as a key frame after all: what it was to build on is gone."""
        self._state, self.why = None, "unsafe"


class Chains:
    """The chains of all cameras; belongs to one event loop."""

    def __init__(
        self, metrics: EdgeMetrics, key_interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._key_interval_s = key_interval_s
        self._clock = clock
        self._cameras: OrderedDict[str, _Camera] = OrderedDict()

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[ChainTurn]:
        """The frame's place, held until it is on disk; if that fails, the next one is a key frame."""
        camera = self._cameras.setdefault(name, _Camera())
        async with camera.lock:
            self._cameras.move_to_end(name)
            try:
                yield ChainTurn(camera, self._is_due(camera))
            except BaseException:
                camera.restart("unsafe")
                raise

    def end(self, name: str, turn: ChainTurn, frame: EncodedFrame, *, safe: bool) -> None:
        """The frame of a turn was handed over. safe: it is on disk."""
        camera = self._cameras[name]
        kind = "key" if turn.key else "held"
        self._metrics.coded_frames.labels(kind).inc()
        self._metrics.coded_bytes.labels(kind).inc(frame.num_bytes)
        if turn.key:
            self._metrics.key_frames.labels(turn.why).inc()
            camera.key_at = self._clock()
        else:
            self._metrics.held_cells.observe(frame.held)
        if not safe:
            camera.restart("unsafe")
        elif turn.key or camera.state is not None:  # unless it was told to begin anew meanwhile
            camera.state = frame.state
        if frame.state is not None and len(self._cameras) * frame.state.num_bytes > MAX_STATE_BYTES:
            self._forget_states()

    def restart(self, name: str, why: KeyReason) -> None:
        """Let the camera's next frame be a key frame."""
        if (camera := self._cameras.get(name)) is not None:
            camera.restart(why)

    def forget(self, name: str) -> None:
        """A camera is served no more."""
        if (camera := self._cameras.get(name)) is not None and not camera.lock.locked():
            del self._cameras[name]

    def _is_due(self, camera: _Camera) -> bool:
        state = camera.state
        if state is None:
            return True
        old = self._clock() - camera.key_at >= self._key_interval_s
        return old or state.frames >= MAX_CHAIN_FRAMES

    def _forget_states(self) -> None:
        kept = [camera for camera in self._cameras.values() if camera.state is not None]
        num_bytes = sum(camera.state.num_bytes for camera in kept if camera.state is not None)
        for camera in kept:
            if num_bytes <= MAX_STATE_BYTES:
                return
            num_bytes -= camera.state.num_bytes if camera.state is not None else 0
            camera.restart("first")


def _fits(state: LatentState, prompt: Prompt, rate: float, canvas: Canvas) -> bool:
    """Whether a frame may follow: same prompt, rate, canvas and source size."""
    header = state.header
    return (
        state.prompt is prompt
        and header.rate_fixed == prompt.rate.to_fixed(rate)
        and (header.network_height, header.network_width) == canvas.pixels.shape[:2]
        and (header.source_height, header.source_width) == (canvas.source_height, canvas.source_width)
    )

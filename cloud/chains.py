"""The state of each camera whose frames hold cells: kept from frame to frame, and had again when it is lost.

A frame that holds cells builds on the state that the frame before it left. States live in memory, those used
longest ago go first; one that is not there is made again from the bitstreams in the database. Only when those
do not lead to it either is the frame refused: StateMismatch, the device must send a key frame.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from cloud.chain_rows import ChainLink
from cloud.messages import IncomingFrame
from cloud.metrics import CloudMetrics
from cloud.result_log import ResultLog
from cloud.runner import TaskOutput
from cloud.turns import Lane, Turn, Turns
from splitcodec.codec import MAX_CHAIN_FRAMES, LatentState
from splitcodec.errors import BitstreamError, StateMismatch
from splitcodec.held_bitstream import is_held, parse_held

Run = Callable[[bytes, LatentState | None], Awaitable[TaskOutput]]
"""Answers a bitstream that builds on a state."""
REASONS: Final = ("unknown", "too_long", "damaged")


class StateCache:
    """States by camera, at most max_bytes of them; the newest of each."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._states: OrderedDict[Lane, LatentState] = OrderedDict()
        self.num_bytes = 0

    def get(self, lane: Lane, name: bytes) -> LatentState | None:
        """The camera's state if it has that name, 4 bytes."""
        state = self._states.get(lane)
        if state is None or state.wire_name != name:
            return None
        self._states.move_to_end(lane)
        return state

    def put(self, lane: Lane, state: LatentState | None) -> None:
        """The state that a frame left; None: it leaves none."""
        before = self._states.pop(lane, None)
        self.num_bytes -= before.num_bytes if before else 0
        if state is None:
            return
        self._states[lane] = replace(state, latent=state.latent.copy())  # it may be a row of a whole batch
        self.num_bytes += state.num_bytes
        while self.num_bytes > self._max_bytes:
            _, oldest = self._states.popitem(last=False)
            self.num_bytes -= oldest.num_bytes


class Chains:
    """Belongs to one event loop."""

    def __init__(self, results: ResultLog, metrics: CloudMetrics, max_bytes: int) -> None:
        self._results = results
        self._metrics = metrics
        self._states = StateCache(max_bytes)
        self._turns = Turns()
        self.take = self._turns.take
        """A place among the frames of one camera, for `answer`; take it before anything is awaited."""
        metrics.state_bytes.set_function(lambda: self._states.num_bytes)

    async def answer(self, frame: IncomingFrame, turn: Turn, run: Run) -> tuple[TaskOutput, ChainLink | None]:
        """What `run` gives for a frame with the state that it builds on, and what is to be kept of it.

        A key frame needs no state and runs at once; one that holds cells waits for those before it.
        StateMismatch; and what `run` raises.
        """
        lane = (frame.key.device, frame.key.camera)
        if is_held(frame.bitstream):
            await turn.wait()
            state = await self._state_for(frame, lane, run)
            output = await run(frame.bitstream, state)
        else:
            output = await run(frame.bitstream, None)
            await turn.wait()
        self._states.put(lane, output.state)
        if output.state is None:
            return output, None
        return replace(output, state=None), ChainLink(output.state.wire_name, frame.bitstream)

    async def _state_for(self, frame: IncomingFrame, lane: Lane, run: Run) -> LatentState:
        name = parse_held(frame.bitstream).state
        state = self._states.get(lane, name) or await self._made_again(frame, lane, name, run)
        if state.frames >= MAX_CHAIN_FRAMES:
            raise self._refusal(
                "too_long", f"{frame.key} follows {state.frames} frames, the limit is reached"
            )
        return state

    async def _made_again(self, frame: IncomingFrame, lane: Lane, name: bytes, run: Run) -> LatentState:
        try:
            links = await self._results.chain_to(lane, name, frame.key.seq)
            state: LatentState | None = None
            for bitstream in links:
                state = (await run(bitstream, state)).state
        except BitstreamError as error:
            raise self._refusal(
                "damaged", f"what was kept of camera {lane[1]} is damaged ({error})"
            ) from error
        if state is None:
            raise self._refusal("unknown", f"{frame.key} builds on state {name.hex()}, which is not here")
        self._metrics.states_made_again.inc()
        return state

    def _refusal(self, reason: str, why: str) -> StateMismatch:
        self._metrics.key_frames_needed.labels(reason).inc()
        return StateMismatch(f"{why}; send a key frame")

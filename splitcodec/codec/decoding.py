"""A frame on its way through the cloud half, what comes of it, and what frames that hold cells do besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import Header, parse
from splitcodec.codec.clock import Stopwatch
from splitcodec.codec.held import CELL, LatentState, as_input, first_state, held_positions
from splitcodec.entropy import decode_hyper, decode_mask
from splitcodec.errors import CorruptBitstream, StateMismatch
from splitcodec.held_bitstream import HeldBitstream, is_held, parse_held
from splitcodec.packs.schema import HOLD_INPUTS
from splitcodec.prompts import Prompt, RateInputs

Array = NDArray[Any]


@dataclass
class DecodingFrame:
    """One frame on its way through the cloud half."""

    header: Header
    prompt: Prompt
    rate: RateInputs
    clock: Stopwatch
    z: Array
    y: bytes
    sigma_check: int
    before: LatentState | None = None  # what it builds on
    held: Array | None = None
    coded: Array = field(default_factory=lambda: np.empty(0, np.int32))  # symbols that travelled
    symbols: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def key(self) -> tuple[str, int, int]:
        """Frames with one key can share a run of the graphs."""
        return (self.prompt.digest, self.header.network_height, self.header.network_width)


@dataclass(frozen=True, eq=False)
class DecodedFeature:
    """The feature a task tail reads: float32 [1, Ch, H/8, W/8], with the header and prompt it came with.

    A frame that holds cells has the header of its chain's key frame. stage_seconds: seconds per stage of
    CLOUD_STAGES; graphs that ran for a whole batch are shared out evenly.
    """

    feature: NDArray[np.float32]
    header: Header
    prompt: Prompt
    stage_seconds: Mapping[str, float]
    _frame: DecodingFrame
    _latent: Array | None

    @property
    def held(self) -> float:
        """Share of the cells that did not travel; 0 in a key frame."""
        return 0.0 if self._frame.held is None else float(self._frame.held.mean())

    def state(self) -> LatentState | None:
        """What the next frame of the chain builds on; None from a pack that holds no cells."""
        frame = self._frame
        if self._latent is None:
            return None
        z = frame.z.astype(np.int32)
        if frame.before is None or frame.held is None:
            return first_state(frame.header, frame.prompt, self._latent, z, frame.coded)
        return frame.before.after(frame.held, self._latent, z, frame.coded)


def begin_held(data: bytes, state: LatentState | None, clock: Stopwatch) -> DecodingFrame:
    """Parses a frame that holds cells and decodes its z; what it does not say is the state's.

    state: of the frame before, None if there is none. StateMismatch, CorruptBitstream.
    """
    frame = parse_held(data)
    state = _check_state(frame, state)
    at = state.prompt.rate_inputs(state.header.rate_fixed)
    held = decode_mask(frame.mask, state.held)
    coded = ~held_positions(held)
    z = state.z.astype(np.float32)
    shape = (len(z), int(coded.sum()), 1)
    check_empty(frame.z, shape[1], "z")
    if shape[1]:
        z[:, coded] = decode_hyper(frame.z, shape, at.z_counts)[:, :, 0]
    return DecodingFrame(state.header, state.prompt, at, clock, z, frame.y, frame.sigma_check, state, held)


def header_of(data: bytes, state: LatentState | None) -> Header:
    """A frame's header: its own, or that of its chain's key frame. BitstreamError; StateMismatch: it holds
    cells, and `state` is not the one that it builds on."""
    if not is_held(data):
        return parse(data).header
    return _check_state(parse_held(data), state).header


def _check_state(frame: HeldBitstream, state: LatentState | None) -> LatentState:
    if state is None or state.wire_name != frame.state:
        have = "none" if state is None else state.wire_name.hex()
        raise StateMismatch(
            f"the frame builds on state {frame.state.hex()}, this side has {have}; send a key frame"
        )
    return state


def check_empty(data: bytes, symbols: int, name: str) -> None:
    """CorruptBitstream for a substream without symbols that has bytes."""
    if data and not symbols:
        raise CorruptBitstream(f"{name} has {len(data)} bytes and no symbol to decode; send a key frame")


def held_inputs(frames: list[DecodingFrame]) -> dict[str, Array]:
    """What the decoder takes beside the rest: cells that are held, and the latent they keep."""
    shape = frames[0].symbols.shape
    none = np.zeros((1, 1, shape[1] // CELL, shape[2] // CELL), np.float32)
    cells = [none if frame.held is None else as_input(frame.held) for frame in frames]
    nothing = np.zeros((1, *shape), np.float32)
    kept = [nothing if frame.before is None else frame.before.latent for frame in frames]
    return dict(zip(HOLD_INPUTS, (join_rows(cells), join_rows(kept)), strict=True))


def join_rows(columns: list[Array]) -> Array:
    """Rate inputs [1, C, 1, 1] of each frame -> [N, C, 1, 1]; a single one keeps its identity."""
    return columns[0] if len(columns) == 1 else np.concatenate(columns)

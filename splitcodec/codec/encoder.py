"""The edge half: canvas -> head -> hyper_encoder -> scale -> quantizer -> rANS of z and y -> bitstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import MAX_NETWORK_SIDE, SIZE_MULTIPLE, Bitstream, Header, serialize
from splitcodec.codec.clock import Stopwatch
from splitcodec.codec.exact import ExactScale, open_graph
from splitcodec.codec.held import (
    WORTH_OF_A_BIT,
    LatentState,
    as_input,
    cell_bits,
    choose_cells,
    coded_latent,
    first_state,
    held_positions,
    nothing_held,
)
from splitcodec.entropy import encode_hyper, encode_mask, encode_symbols, sigma_crc
from splitcodec.errors import FrameTooLarge, GraphFailed, UnsupportedFrame
from splitcodec.held_bitstream import HeldBitstream, serialize_held
from splitcodec.packs import Pack
from splitcodec.packs.schema import HOLD_INPUTS, IMPORTANCE_OUTPUT, LATENT_OUTPUT
from splitcodec.prompts import Prompt, RateInputs
from splitcodec.runtime import Session
from splitcodec.wire.names import RATE_ONE

Array = NDArray[Any]
EDGE_STAGES: Final = ("head", "hyper", "context", "entropy")
Again = Callable[[float, int], float | None]
"""(rate as coded, bytes) -> the lower rate to code at in its place, None to leave it."""
HOLD_STAGE: Final = "hold"  # of frames that hold cells: what they would cost, and which to hold


@dataclass(frozen=True)
class EncodedFrame:
    """One compressed frame.

    data: the bitstream, which is all that travels; rate: the rate point used, after rounding to 1/256;
    stage_seconds: seconds per stage of EDGE_STAGES (hyper = hyper encoder and scale graph, context =
    quantizer graph); importance: the maps [M, H/16, W/16] that steered its bits, in (0, 2), 1 where a prompt
    leaves them alone; they did not travel. None from a pack whose prompts have no selector; state: what the
    next frame of a chain builds on; held: share of the cells that were not coded, 0 in a key frame.
    """

    data: bytes
    rate: float
    prompt_digest: str
    stage_seconds: Mapping[str, float]
    importance: NDArray[np.float32] | None = None
    state: LatentState | None = None
    held: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire, header and checksums included."""
        return len(self.data)


@dataclass(frozen=True)
class _Seen:
    """A canvas that the head has seen. y float32 [1, Cy, h, w] with gain; maps [M, h, w]; sizes in pixels."""

    y: Array
    maps: NDArray[np.float32] | None
    prompt: Prompt
    size: tuple[int, int]
    source_size: tuple[int, int]
    chain: bool


class FeatureEncoder:
    """The edge half.

    One encoder serves every task and rate; `compress` may be called from several threads.
    """

    def __init__(self, pack: Pack, engine: str = "auto", threads: int = 1) -> None:
        """Opens the edge graphs and verifies the exact branch with the pack's prompts.

        threads: CPU threads inside one operator. Raises RuntimeUnavailable, GraphFailed or
        SigmaIndexMismatch.
        """
        self.pack = pack
        self._scale = ExactScale(pack, threads)
        self._head = open_graph(pack, "head", engine, threads)
        self._hyper = open_graph(pack, "hyper_encoder", engine, threads)
        self._quantizer = open_graph(pack, "quantizer", engine, threads)
        for prompt in pack.prompts.values():
            self._scale.verify(prompt)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The graphs in the order they run."""
        return (self._head, self._hyper, self._scale.session, self._quantizer)

    def warm(self, prompt: Prompt) -> None:
        """Verifies the exact branch with a prompt and runs one small grey frame.

        Raises what `compress` raises.
        """
        self._scale.verify(prompt)
        self.compress(np.full((SIZE_MULTIPLE, SIZE_MULTIPLE, 3), 114, np.uint8), prompt, 0.0, (1, 1))

    def compress(
        self,
        canvas: NDArray[np.uint8],
        prompt: Prompt,
        rate: float,
        source_size: tuple[int, int],
        importance: NDArray[np.float32] | None = None,
        *,
        chain: bool = False,
        again: Again | None = None,
    ) -> EncodedFrame:
        """Compresses one canvas by itself: a key frame.

        canvas: uint8 [H, W, 3] RGB, H and W multiples of 32 up to 2048; rate: 0..K-1, may lie between trained
        points; source_size: height and width in pixels of the picture the canvas was made from; importance:
        maps to use in place of the picture's own (for measuring what they are worth); chain: also give the
        state that `compress_held` goes on from, if the pack can hold cells; again: asked once what came out,
        whether to code the same y once more at a lower rate. Raises UnsupportedFrame, FrameTooLarge,
        RateOutOfRange, BitstreamTooLarge, GraphFailed, SigmaIndexMismatch.
        """
        size = _check_canvas(canvas)
        rate_fixed = prompt.rate.to_fixed(rate)
        at = prompt.rate_inputs(rate_fixed)
        clock = Stopwatch()
        y, maps = self._look(canvas, prompt, at, importance, clock)
        seen = _Seen(y, None if maps is None else maps[0], prompt, size, source_size, chain)
        frame = self._key_frame(seen, rate_fixed, clock)
        lower = None if again is None else again(frame.rate, frame.num_bytes)
        if lower is None or (less := prompt.rate.to_fixed(lower)) >= rate_fixed:
            return frame
        rescaled = y * (prompt.rate_inputs(less).gain_y / at.gain_y)
        return self._key_frame(replace(seen, y=rescaled), less, clock)

    def _key_frame(self, seen: _Seen, rate_fixed: int, clock: Stopwatch) -> EncodedFrame:
        prompt, (height, width) = seen.prompt, seen.size
        at = prompt.rate_inputs(rate_fixed)
        z_symbols, index = self._hyper_symbols(seen.y, prompt, at, seen.size, clock)
        with clock("context"):
            symbols, latent = self._quantize(seen.y, z_symbols, index, at, prompt)
        with clock("entropy"):
            header = Header(
                codec_digest=self.pack.wire_digest,
                prompt_digest=prompt.wire_digest,
                rate_fixed=rate_fixed,
                source_height=seen.source_size[0],
                source_width=seen.source_size[1],
                network_height=height,
                network_width=width,
                sigma_crc=sigma_crc(index[0]),
            )
            z = _to_integers(z_symbols, "hyper_encoder")[0]
            z_bytes = encode_hyper(z, at.z_counts)
            y_bytes = encode_symbols(symbols[0], index[0], self.pack.tables_of(prompt))
            data = serialize(Bitstream(header, z_bytes, y_bytes))
            chained = seen.chain and self.pack.holds
            state = first_state(header, prompt, latent, z, symbols[0]) if chained else None
        return EncodedFrame(data, rate_fixed / RATE_ONE, prompt.digest, clock.seconds, seen.maps, state)

    def compress_held(
        self, canvas: NDArray[np.uint8], state: LatentState, worth: float = WORTH_OF_A_BIT
    ) -> EncodedFrame:
        """Compresses the next canvas of a chain, holding the cells that have not changed enough.

        canvas: of the size of the chain's key frame, from a picture of the same size; it is coded with that
        frame's prompt and rate; worth: squared error of the latent, without gain, that a saved bit is worth.
        Raises as `compress`, and UnsupportedFrame for a canvas of another size or a pack without holding.
        """
        header, prompt = state.header, state.prompt
        size = _check_canvas(canvas)
        if size != (header.network_height, header.network_width) or not self.pack.holds:
            raise UnsupportedFrame(
                f"a canvas of {size[0]}x{size[1]} cannot follow one of {header.network_height}x"
                f"{header.network_width} of pack {self.pack.name}; send a key frame"
            )
        at = prompt.rate_inputs(header.rate_fixed)
        clock = Stopwatch()
        y, maps = self._look(canvas, prompt, at, None, clock)
        z_symbols, index = self._hyper_symbols(y, prompt, at, size, clock)
        with clock(HOLD_STAGE):
            symbols, coded = self._quantize(y, z_symbols, index, at, prompt)
            bits = cell_bits(symbols[0], index[0], self.pack.tables_of(prompt))
            held = choose_cells(y, state, coded, bits, at.gain_y, worth)
            kept_z = held_positions(held)
            z = np.where(kept_z, state.z, _to_integers(z_symbols, "hyper_encoder")[0])
            mixed = z[None].astype(np.float32)
        with clock("hyper"):
            index = self._scale.run(mixed, at.rate_shift, prompt, *size)
        with clock("context"):
            symbols, latent = self._quantize(y, mixed, index, at, prompt, (as_input(held), state.latent))
        with clock("entropy"):
            where = coded_latent(held)
            coded_symbols = symbols[0][:, where]
            frame = HeldBitstream(
                state=state.wire_name,
                sigma_check=sigma_crc(index[0]) & 0xFFFF,
                mask=encode_mask(held, state.held),
                z=b"" if kept_z.all() else encode_hyper(z[:, ~kept_z][:, :, None], at.z_counts),
                y=b"" if held.all() else self._encode_coded(coded_symbols, index[0][:, where], prompt),
            )
            data = serialize_held(frame)
            after = state.after(held, latent, z, coded_symbols)
        shown = None if maps is None else maps[0]
        rate = header.rate_fixed / RATE_ONE
        return EncodedFrame(data, rate, prompt.digest, clock.seconds, shown, after, float(held.mean()))

    def _encode_coded(self, symbols: Array, index: Array, prompt: Prompt) -> bytes:
        return encode_symbols(symbols, np.ascontiguousarray(index), self.pack.tables_of(prompt))

    def _look(
        self, canvas: Array, prompt: Prompt, at: RateInputs, importance: Array | None, clock: Stopwatch
    ) -> tuple[Array, Array | None]:
        """y float32 [1, Cy, h, w] with gain, and its importance maps."""
        with clock("head"):
            image = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32)
            seen = self._head.run({"image": image, "gain_y": at.gain_y, **prompt.graph_inputs("head")})
            y, maps = seen["y"], seen.get(IMPORTANCE_OUTPUT)
            return (y, maps) if importance is None else _steered(y, maps, importance)

    def _hyper_symbols(
        self, y: Array, prompt: Prompt, at: RateInputs, size: tuple[int, int], clock: Stopwatch
    ) -> tuple[Array, NDArray[np.uint8]]:
        """z symbols float32 [1, Cz, hz, wz] and sigma indexes [1, Cy, h, w]."""
        with clock("hyper"):
            feed = {"y": y, "gain_z": at.gain_z, **prompt.graph_inputs("hyper_encoder")}
            z_symbols = self._hyper.run(feed)["z_symbols"]
            return z_symbols, self._scale.run(z_symbols, at.rate_shift, prompt, *size)

    def _quantize(
        self,
        y: Array,
        z_symbols: Array,
        index: NDArray[np.uint8],
        at: RateInputs,
        prompt: Prompt,
        held: tuple[Array, Array] | None = None,
    ) -> tuple[NDArray[np.int32], Array]:
        """y float32 [1, Cy, h, w] -> symbols int32, within the support of their sigma level, and the latent.

        held: cells and the latent they keep. The latent is y itself from a pack that holds no cells.
        """
        limit = self.pack.tables_of(prompt).limit.astype(np.float32)[index]
        feed = {"y": y, "z_symbols": z_symbols, "gain_z_inv": at.gain_z_inv, "symbol_limit": limit}
        if self.pack.holds:
            feed |= nothing_held(y.shape) if held is None else dict(zip(HOLD_INPUTS, held, strict=True))
        given = self._quantizer.run({**feed, **prompt.graph_inputs("quantizer")})
        return _to_integers(given["symbols"], "quantizer"), given.get(LATENT_OUTPUT, y)


def _steered(y: Array, own: Array | None, given: Array) -> tuple[Array, Array]:
    """y [1, Cy, h, w] with its importance maps [1, M, h, w] replaced by others [M, h, w]."""
    if own is None or given.shape != own.shape[1:]:
        found = None if own is None else list(own.shape[1:])
        raise UnsupportedFrame(f"importance maps are {list(given.shape)}, this head gives {found}")
    channels = y.shape[1] // own.shape[1]
    return y * np.repeat(given[None] / own, channels, axis=1), given[None]


def _check_canvas(canvas: Array) -> tuple[int, int]:
    """Height and width of a canvas; raises UnsupportedFrame or FrameTooLarge."""
    if canvas.ndim != 3 or canvas.shape[2] != 3 or canvas.dtype != np.uint8:
        raise UnsupportedFrame(f"canvas is {canvas.dtype}{list(canvas.shape)}; give uint8 [H, W, 3] RGB")
    height, width = canvas.shape[:2]
    if max(height, width) > MAX_NETWORK_SIDE:
        raise FrameTooLarge(
            f"canvas is {height}x{width}; no side may exceed {MAX_NETWORK_SIDE}: letterbox it"
        )
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height or not width:
        raise UnsupportedFrame(
            f"canvas is {height}x{width}; both must be multiples of {SIZE_MULTIPLE}: pad it"
        )
    return height, width


def _to_integers(values: Array, graph: str) -> NDArray[np.int32]:
    """Integer-valued float32 -> int32; raises GraphFailed if a value is not an integer of modest size."""
    if not (np.abs(values) < 1 << 15).all():
        raise GraphFailed(f"graph {graph} gave NaN or values beyond 2**15; the pack or its engine is broken")
    integers = values.astype(np.int32)
    if not np.array_equal(integers, values):
        raise GraphFailed(f"graph {graph} gave fractions where symbols belong; export the pack again")
    return integers

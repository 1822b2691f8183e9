"""The edge half: canvas -> head -> hyper_encoder -> scale -> quantizer -> rANS of z and y -> bitstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import MAX_NETWORK_SIDE, SIZE_MULTIPLE, Bitstream, Header, serialize
from splitcodec.codec.clock import Stopwatch
from splitcodec.codec.exact import ExactScale, open_graph
from splitcodec.entropy import encode_hyper, encode_symbols, sigma_crc
from splitcodec.errors import FrameTooLarge, GraphFailed, UnsupportedFrame
from splitcodec.packs import Pack
from splitcodec.packs.schema import IMPORTANCE_OUTPUT
from splitcodec.prompts import Prompt, RateInputs
from splitcodec.runtime import Session
from splitcodec.wire.names import RATE_ONE

Array = NDArray[Any]
EDGE_STAGES: Final = ("head", "hyper", "context", "entropy")


@dataclass(frozen=True)
class EncodedFrame:
    """One compressed frame.

    data: the bitstream, which is all that travels; rate: the rate point used, after rounding to 1/256;
    stage_seconds: seconds per stage of EDGE_STAGES (hyper = hyper encoder and scale graph, context =
    quantizer graph); importance: the maps [M, H/16, W/16] that steered its bits, in (0, 2), 1 where a prompt
    leaves them alone; they did not travel. None from a pack whose prompts have no selector.
    """

    data: bytes
    rate: float
    prompt_digest: str
    stage_seconds: Mapping[str, float]
    importance: NDArray[np.float32] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes on the wire, header and checksums included."""
        return len(self.data)


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
    ) -> EncodedFrame:
        """Compresses one canvas.

        canvas: uint8 [H, W, 3] RGB, H and W multiples of 32 up to 2048; rate: 0..K-1, may lie between trained
        points; source_size: height and width in pixels of the picture the canvas was made from; importance:
        maps to use in place of the picture's own (for measuring what they are worth). Raises
        UnsupportedFrame, FrameTooLarge, RateOutOfRange, BitstreamTooLarge, GraphFailed, SigmaIndexMismatch.
        """
        height, width = _check_canvas(canvas)
        rate_fixed = prompt.rate.to_fixed(rate)
        at = prompt.rate_inputs(rate_fixed)
        clock = Stopwatch()
        with clock("head"):
            image = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32)
            seen = self._head.run({"image": image, "gain_y": at.gain_y, **prompt.graph_inputs("head")})
            y, maps = seen["y"], seen.get(IMPORTANCE_OUTPUT)
            if importance is not None:
                y, maps = _steered(y, maps, importance)
        with clock("hyper"):
            feed = {"y": y, "gain_z": at.gain_z, **prompt.graph_inputs("hyper_encoder")}
            z_symbols = self._hyper.run(feed)["z_symbols"]
            index = self._scale.run(z_symbols, at.rate_shift, prompt, height, width)
        with clock("context"):
            symbols = self._quantize(y, z_symbols, index, at, prompt)
        with clock("entropy"):
            header = Header(
                codec_digest=self.pack.wire_digest,
                prompt_digest=prompt.wire_digest,
                rate_fixed=rate_fixed,
                source_height=source_size[0],
                source_width=source_size[1],
                network_height=height,
                network_width=width,
                sigma_crc=sigma_crc(index[0]),
            )
            z_bytes = encode_hyper(_to_integers(z_symbols, "hyper_encoder")[0], at.z_counts)
            y_bytes = encode_symbols(symbols[0], index[0], self.pack.tables_of(prompt))
            data = serialize(Bitstream(header, z_bytes, y_bytes))
        shown = None if maps is None else maps[0]
        return EncodedFrame(data, rate_fixed / RATE_ONE, prompt.digest, clock.seconds, shown)

    def _quantize(
        self, y: Array, z_symbols: Array, index: NDArray[np.uint8], at: RateInputs, prompt: Prompt
    ) -> NDArray[np.int32]:
        """y float32 [1, Cy, h, w] -> symbols int32, same shape, within the support of their sigma level."""
        limit = self.pack.tables_of(prompt).limit.astype(np.float32)[index]
        feed = {"y": y, "z_symbols": z_symbols, "gain_z_inv": at.gain_z_inv, "symbol_limit": limit}
        values = self._quantizer.run({**feed, **prompt.graph_inputs("quantizer")})["symbols"]
        return _to_integers(values, "quantizer")


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

"""The cloud half: rANS of z -> scale -> CRC of the sigma indexes -> rANS of y -> decoder -> feature."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import SIZE_MULTIPLE, parse
from splitcodec.codec.clock import Stopwatch, shared
from splitcodec.codec.decoding import (
    DecodedFeature,
    DecodingFrame,
    begin_held,
    check_empty,
    held_inputs,
    join_rows,
)
from splitcodec.codec.exact import ExactScale, open_graph
from splitcodec.codec.held import LatentState, coded_latent, nothing_held
from splitcodec.entropy import decode_hyper, decode_symbols, sigma_crc
from splitcodec.errors import (
    PackMismatch,
    SigmaIndexMismatch,
    SplitcodecError,
)
from splitcodec.held_bitstream import is_held
from splitcodec.packs import Pack
from splitcodec.packs.schema import LATENT_OUTPUT
from splitcodec.prompts import Prompt, PromptStore
from splitcodec.runtime import Session

Array = NDArray[Any]
CLOUD_STAGES: Final = ("entropy", "hyper", "decoder")


class FeatureDecoder:
    """The cloud half. Bitstreams name their prompt by digest, so several prompts may be in use at once."""

    def __init__(
        self, pack: Pack, engine: str = "auto", threads: int = 1, store: PromptStore | None = None
    ) -> None:
        """Opens the cloud graphs; `store` holds the live prompts, by default those of the pack.

        threads: CPU threads inside one operator. Raises RuntimeUnavailable, GraphFailed or
        SigmaIndexMismatch.
        """
        self.pack = pack
        self.store = PromptStore(pack.prompts.values()) if store is None else store
        self._scale = ExactScale(pack, threads)
        self._decoder = open_graph(pack, "decoder", engine, threads)
        for prompt in pack.prompts.values():
            self._scale.verify(prompt)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The graphs in the order they run."""
        return (self._scale.session, self._decoder)

    def warm(self, prompt: Prompt) -> None:
        """Verifies the exact branch with a prompt and decodes one small frame of zeros.

        Raises as `decompress`.
        """
        self._scale.verify(prompt)
        codec, cells = self.pack.manifest.codec, SIZE_MULTIPLE // 16
        at = prompt.rate_inputs(0)
        feed = {
            "symbols": np.zeros((1, codec.latent_channels, cells, cells), np.float32),
            "z_symbols": np.zeros((1, codec.hyper_channels, 1, 1), np.float32),
            "gain_z_inv": at.gain_z_inv,
            "gain_y_inv": at.gain_y_inv,
        }
        if self.pack.holds:
            feed |= nothing_held(feed["symbols"].shape)
        self._decoder.run({**feed, **prompt.graph_inputs("decoder")})

    def decompress(self, data: bytes, state: LatentState | None = None) -> DecodedFeature:
        """Decodes one bitstream; state: of the frame before, for one that holds cells.

        Raises StateMismatch (the frame builds on another state), BitstreamError (damaged or oversize),
        PackMismatch or UnknownPrompt (made with other weights), RateOutOfRange, SigmaIndexMismatch,
        GraphFailed.
        """
        result = self.decompress_batch([data], states=[state])[0]
        if isinstance(result, SplitcodecError):
            raise result
        return result

    def decompress_batch(
        self,
        batch: Sequence[bytes],
        leased: Prompt | None = None,
        states: Sequence[LatentState | None] | None = None,
    ) -> list[DecodedFeature | SplitcodecError]:
        """Decodes several bitstreams; the answers have their order, and a bad frame's answer is its error.

        Frames of one prompt and one network size share the runs of the graphs; the bad ones do not harm the
        others. leased: a prompt that the caller holds, for the frames that name it; it may be retiring.
        states: for each frame that of the one before, None for key frames.
        """
        results: list[DecodedFeature | SplitcodecError | None] = [None] * len(batch)
        groups: dict[tuple[str, int, int], list[tuple[int, DecodingFrame]]] = {}
        with ExitStack() as leases:
            for position, data in enumerate(batch):
                try:
                    frame = self._begin(data, leased, leases, states[position] if states else None)
                except SplitcodecError as error:
                    results[position] = error
                else:
                    groups.setdefault(frame.key, []).append((position, frame))
            for members in groups.values():
                outcomes = self._decode_group([frame for _, frame in members])
                for (position, _), outcome in zip(members, outcomes, strict=True):
                    results[position] = outcome
        return [result for result in results if result is not None]

    def _begin(
        self, data: bytes, leased: Prompt | None, leases: ExitStack, state: LatentState | None
    ) -> DecodingFrame:
        """Parses, finds pack, prompt and rate, and decodes z."""
        clock = Stopwatch()
        with clock("entropy"):
            if is_held(data):
                return begin_held(data, state if self.pack.holds else None, clock)
            bitstream = parse(data)
            header = bitstream.header
            if header.codec_digest != self.pack.wire_digest:
                raise PackMismatch(
                    f"bitstream was made with codec {header.codec_digest.hex()}, this side holds "
                    f"{self.pack.wire_digest.hex()} (pack {self.pack.name}); deploy that pack or re-encode"
                )
            if leased is not None and leased.wire_digest == header.prompt_digest:
                prompt = leased
            else:
                prompt = leases.enter_context(self.store.lease_digest(header.prompt_digest))
            at = prompt.rate_inputs(header.rate_fixed)
            cells = [-(-side // 64) for side in (header.network_height, header.network_width)]
            shape = (self.pack.manifest.codec.hyper_channels, cells[0], cells[1])
            z = decode_hyper(bitstream.z, shape, at.z_counts).astype(np.float32)
        return DecodingFrame(header, prompt, at, clock, z, bitstream.y, header.sigma_crc)

    def _decode_group(self, frames: list[DecodingFrame]) -> list[DecodedFeature | SplitcodecError]:
        """Runs the graphs for frames of one key; an error of a graph is the answer of every frame in it."""
        try:
            indexes = self._scale_batch(frames)
        except SplitcodecError as error:
            return [error] * len(frames)
        outcomes: list[DecodedFeature | SplitcodecError | None] = [None] * len(frames)
        sound = []
        for position, (frame, index) in enumerate(zip(frames, indexes, strict=True)):
            try:
                self._decode_symbols(frame, index)
                sound.append(position)
            except SplitcodecError as error:
                outcomes[position] = error
        try:
            features = self._decoder_batch([frames[position] for position in sound])
        except SplitcodecError as error:
            return [outcome or error for outcome in outcomes]
        for position, (feature, latent) in zip(sound, features, strict=True):
            frame = frames[position]
            outcomes[position] = DecodedFeature(
                feature, frame.header, frame.prompt, frame.clock.seconds, frame, latent
            )
        return [outcome for outcome in outcomes if outcome is not None]

    def _scale_batch(self, frames: list[DecodingFrame]) -> NDArray[np.uint8]:
        """Sigma indexes uint8 [N, Cy, h, w] of all frames."""
        prompt, (_, height, width) = frames[0].prompt, frames[0].key
        with shared([frame.clock for frame in frames], "hyper"):
            z = np.stack([frame.z for frame in frames])
            shift = join_rows([frame.rate.rate_shift for frame in frames])
            return self._scale.run(z, shift, prompt, height, width)

    def _decode_symbols(self, frame: DecodingFrame, index: NDArray[np.uint8]) -> None:
        with frame.clock("entropy"):
            found = sigma_crc(index) if frame.held is None else sigma_crc(index) & 0xFFFF
            if found != frame.sigma_check:
                raise SigmaIndexMismatch(
                    f"sigma indexes have CRC {found:#010x} here and {frame.sigma_check:#010x} "
                    "at the encoder; the machines disagree on the exact branch: run `splitcodec doctor` on "
                    "both and report it"
                )
            tables = self.pack.tables_of(frame.prompt)
            if frame.held is None:
                frame.coded = decode_symbols(frame.y, index, tables)
                frame.symbols = frame.coded.astype(np.float32)
                return
            where = coded_latent(frame.held)
            chosen = np.ascontiguousarray(index[:, where])
            check_empty(frame.y, chosen.size, "y")
            frame.coded = decode_symbols(frame.y, chosen, tables) if chosen.size else chosen.astype(np.int32)
            frame.symbols = np.zeros(index.shape, np.float32)
            frame.symbols[:, where] = frame.coded

    def _decoder_batch(self, frames: list[DecodingFrame]) -> list[tuple[Array, Array | None]]:
        """Features, float32 [1, Ch, H/8, W/8] each, and latents; nothing runs for no frames."""
        if not frames:
            return []
        with shared([frame.clock for frame in frames], "decoder"):
            feed = {
                "symbols": np.stack([frame.symbols for frame in frames]),
                "z_symbols": np.stack([frame.z for frame in frames]),
                "gain_z_inv": join_rows([frame.rate.gain_z_inv for frame in frames]),
                "gain_y_inv": join_rows([frame.rate.gain_y_inv for frame in frames]),
                **(held_inputs(frames) if self.pack.holds else {}),
                **frames[0].prompt.graph_inputs("decoder"),
            }
            given = self._decoder.run(feed)
        feature, latent = given["feature"], given.get(LATENT_OUTPUT)
        rows = range(len(frames))
        return [(feature[i : i + 1], None if latent is None else latent[i : i + 1]) for i in rows]

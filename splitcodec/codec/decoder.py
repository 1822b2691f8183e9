"""The cloud half: rANS of z -> scale -> CRC of the sigma indexes -> rANS of y -> decoder -> feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.bitstream import SIZE_MULTIPLE, Bitstream, Header, parse
from splitcodec.codec.clock import Stopwatch, shared
from splitcodec.codec.exact import ExactScale, open_graph
from splitcodec.entropy import decode_hyper, decode_symbols, sigma_crc
from splitcodec.errors import PackMismatch, SigmaIndexMismatch, SplitcodecError
from splitcodec.packs import Pack
from splitcodec.prompts import Prompt, PromptStore, RateInputs
from splitcodec.runtime import Session

Array = NDArray[Any]
CLOUD_STAGES: Final = ("entropy", "hyper", "decoder")


@dataclass(frozen=True, eq=False)
class DecodedFeature:
    """The feature a task tail reads: float32 [1, Ch, H/8, W/8], with the header and prompt it came with.

    stage_seconds: seconds per stage of CLOUD_STAGES; graphs that ran for a whole batch are shared out evenly.
    """

    feature: NDArray[np.float32]
    header: Header
    prompt: Prompt
    stage_seconds: Mapping[str, float]


@dataclass
class _Frame:
    """One frame on its way through the cloud half."""

    bitstream: Bitstream
    prompt: Prompt
    rate: RateInputs
    clock: Stopwatch
    z: Array = field(default_factory=lambda: np.empty(0, np.float32))
    symbols: Array = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def key(self) -> tuple[str, int, int]:
        """Frames with one key can share a run of the graphs."""
        header = self.bitstream.header
        return (self.prompt.digest, header.network_height, header.network_width)


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
        self._decoder.run({**feed, **prompt.graph_inputs("decoder")})

    def decompress(self, data: bytes) -> DecodedFeature:
        """Decodes one bitstream.

        Raises BitstreamError (damaged or oversize), PackMismatch or UnknownPrompt (made with other weights),
        RateOutOfRange, SigmaIndexMismatch, GraphFailed.
        """
        result = self.decompress_batch([data])[0]
        if isinstance(result, SplitcodecError):
            raise result
        return result

    def decompress_batch(
        self, batch: Sequence[bytes], leased: Prompt | None = None
    ) -> list[DecodedFeature | SplitcodecError]:
        """Decodes several bitstreams; the answers have their order, and a bad frame's answer is its error.

        Frames of one prompt and one network size share the runs of the graphs; the bad ones do not harm the
        others. leased: a prompt that the caller holds, for the frames that name it; it may be retiring.
        """
        results: list[DecodedFeature | SplitcodecError | None] = [None] * len(batch)
        groups: dict[tuple[str, int, int], list[tuple[int, _Frame]]] = {}
        with ExitStack() as leases:
            for position, data in enumerate(batch):
                try:
                    frame = self._begin(data, leased, leases)
                except SplitcodecError as error:
                    results[position] = error
                else:
                    groups.setdefault(frame.key, []).append((position, frame))
            for members in groups.values():
                outcomes = self._decode_group([frame for _, frame in members])
                for (position, _), outcome in zip(members, outcomes, strict=True):
                    results[position] = outcome
        return [result for result in results if result is not None]

    def _begin(self, data: bytes, leased: Prompt | None, leases: ExitStack) -> _Frame:
        """Parses, finds pack, prompt and rate, and decodes z."""
        clock = Stopwatch()
        with clock("entropy"):
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
        return _Frame(bitstream, prompt, at, clock, z)

    def _decode_group(self, frames: list[_Frame]) -> list[DecodedFeature | SplitcodecError]:
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
        for position, feature in zip(sound, features, strict=True):
            frame = frames[position]
            outcomes[position] = DecodedFeature(
                feature, frame.bitstream.header, frame.prompt, frame.clock.seconds
            )
        return [outcome for outcome in outcomes if outcome is not None]

    def _scale_batch(self, frames: list[_Frame]) -> NDArray[np.uint8]:
        """Sigma indexes uint8 [N, Cy, h, w] of all frames."""
        prompt, (_, height, width) = frames[0].prompt, frames[0].key
        with shared([frame.clock for frame in frames], "hyper"):
            z = np.stack([frame.z for frame in frames])
            shift = _join([frame.rate.rate_shift for frame in frames])
            return self._scale.run(z, shift, prompt, height, width)

    def _decode_symbols(self, frame: _Frame, index: NDArray[np.uint8]) -> None:
        with frame.clock("entropy"):
            if (found := sigma_crc(index)) != (want := frame.bitstream.header.sigma_crc):
                raise SigmaIndexMismatch(
                    f"sigma indexes have CRC {found:#010x} here and {want:#010x} at the encoder; the two "
                    "machines "
                    "disagree on the exact branch: run `splitcodec doctor` on both and report it"
                )
            tables = self.pack.tables_of(frame.prompt)
            frame.symbols = decode_symbols(frame.bitstream.y, index, tables).astype(np.float32)

    def _decoder_batch(self, frames: list[_Frame]) -> list[Array]:
        """Features, float32 [1, Ch, H/8, W/8] each; nothing runs for no frames."""
        if not frames:
            return []
        with shared([frame.clock for frame in frames], "decoder"):
            feed = {
                "symbols": np.stack([frame.symbols for frame in frames]),
                "z_symbols": np.stack([frame.z for frame in frames]),
                "gain_z_inv": _join([frame.rate.gain_z_inv for frame in frames]),
                "gain_y_inv": _join([frame.rate.gain_y_inv for frame in frames]),
                **frames[0].prompt.graph_inputs("decoder"),
            }
            feature = self._decoder.run(feed)["feature"]
        return [feature[i : i + 1] for i in range(len(frames))]


def _join(columns: list[Array]) -> Array:
    """Rate inputs [1, C, 1, 1] of each frame -> [N, C, 1, 1]; a single one keeps its identity."""
    return columns[0] if len(columns) == 1 else np.concatenate(columns)

"""The library in one object: a picture to a bitstream, and the bitstream to the task's answer.

    codec = splitcodec.load("default")
    answer = codec.decode(codec.encode("street.jpg").bitstream)

The two halves do what the edge and the cloud do, byte for byte, without a service.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from splitcodec.codec import DecodedFeature, FeatureDecoder, FeatureEncoder
from splitcodec.frame import Canvas, read_canvas, to_canvas
from splitcodec.packs import InputConvention, Pack, load_pack
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.picture import Image, check_pixels, read_file
from splitcodec.runtime import Session, open_session
from splitcodec.tasks import ResultLimits, TaskAnswer, postprocess_for


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """One compressed picture; `bitstream` is all that has to travel.

    rate: the rate point used, after rounding to 1/256; canvas: what the network saw; importance: float32
    [M, H/16, W/16] in (0, 2), the maps that steered the bits, None from a pack without a selector; held:
    share of the cells that were not coded, 0 but for frames of a still camera.
    """

    bitstream: bytes
    task: str
    rate: float
    canvas: Canvas
    importance: NDArray[np.float32] | None
    held: float = 0.0

    @property
    def num_bytes(self) -> int:
        """Size of the bitstream, header and checksums included."""
        return len(self.bitstream)


class PictureCodec:
    """Both halves of one pack. Graphs are opened when they are first needed; any thread may call."""

    def __init__(self, pack: Pack, engine: str = "auto", threads: int = 1) -> None:
        """Takes a verified pack, see `load`. threads: CPU threads inside one operator."""
        self.pack = pack
        self._engine = engine
        self._threads = threads
        self._opening = RLock()
        self._tails: dict[str, Session] = {}

    def encode(self, picture: Image, task: str = "detect", rate: float | None = None) -> EncodedPicture:
        """Compresses one picture as the edge does.

        picture: the bytes of a JPEG, PNG or WebP file, the path of one, or RGB pixels uint8 [h, w, 3];
        rate: 0 (fewest bytes) to the last rate point of the pack, may lie between two, by default mid-range.
        Raises UnknownTask, RateOutOfRange, FrameError (no picture, too large, damaged), RuntimeUnavailable,
        GraphFailed.
        """
        prompt, chosen = self.pack.prompt(task), self.rate_of(task, rate)
        canvas = self.canvas(picture, task)
        size = (canvas.source_height, canvas.source_width)
        frame = self.encoder.compress(canvas.pixels, prompt, chosen, size)
        return EncodedPicture(frame.data, task, frame.rate, canvas, frame.importance)

    def decode(self, bitstream: bytes, limits: ResultLimits | None = None) -> TaskAnswer:
        """Answers one bitstream as the cloud does; the kind of answer is that of its task.

        limits: which findings are kept. Raises BitstreamError (damaged, too large), PackMismatch or
        UnknownPrompt (made with other weights), RateOutOfRange, RuntimeUnavailable, GraphFailed.
        """
        return self.answer(bitstream, limits)[1]

    def answer(self, bitstream: bytes, limits: ResultLimits | None = None) -> tuple[str, TaskAnswer]:
        """The task that a bitstream was made for, and what `decode` gives."""
        return self.answer_to(self.decoder.decompress(bitstream), limits)

    def canvas(self, picture: Image, task: str) -> Canvas:
        """What the network sees of a picture. UnknownTask, FrameError."""
        return _canvas(picture, self.pack.task(task).input)

    def rate_of(self, task: str, rate: float | None) -> float:
        """The rate that was asked for, or mid-range. UnknownTask."""
        return (self.pack.prompt(task).rate.points - 1) / 2 if rate is None else rate

    @property
    def encoder(self) -> FeatureEncoder:
        """The edge half, opened on first use."""
        with self._opening:
            return self._encoder

    @property
    def decoder(self) -> FeatureDecoder:
        """The cloud half, opened on first use."""
        with self._opening:
            return self._decoder

    def answer_to(
        self, decoded: DecodedFeature, limits: ResultLimits | None = None
    ) -> tuple[str, TaskAnswer]:
        """The task of a decoded feature, and its answer."""
        task = decoded.prompt.task
        section = self.pack.task(task)
        outputs = self._tail(task).run({TAIL_INPUT: decoded.feature})
        size = section.input.frame_size(decoded.header)
        found = postprocess_for(section.postprocess)(outputs, size, section.labels, limits or ResultLimits())
        return task, found

    @cached_property
    def _encoder(self) -> FeatureEncoder:
        return FeatureEncoder(self.pack, self._engine, self._threads)

    @cached_property
    def _decoder(self) -> FeatureDecoder:
        return FeatureDecoder(self.pack, self._engine, self._threads)

    def _tail(self, task: str) -> Session:
        with self._opening:
            if task not in self._tails:
                graph = self.pack.tail_bytes(task)
                self._tails[task] = open_session(graph, self._engine, self._threads, name=f"tail:{task}")
            return self._tails[task]


def load(pack: str | os.PathLike[str] = "default", engine: str = "auto", threads: int = 1) -> PictureCodec:
    """The codec of a pack: a folder, a zip, or "default" for the one inside the library.

    Every file is checked against the digests of the manifest; no graph is opened yet. engine: see
    `splitcodec doctor`. Raises the PackError and PromptError families.
    """
    place = os.fspath(pack)
    return PictureCodec(load_pack(place), engine, threads)


def _canvas(picture: Image, convention: InputConvention) -> Canvas:
    """What the network sees of a picture in any of its forms. Raises the FrameError family."""
    if isinstance(picture, np.ndarray):
        check_pixels(picture)
        return to_canvas(np.ascontiguousarray(picture), convention)
    data = picture if isinstance(picture, bytes) else read_file(picture)
    return read_canvas(data, None, convention)

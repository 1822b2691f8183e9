"""A pack's codec as a system to measure, through the same encoder and decoder as the services."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.evaluation.systems import Sighting, Teacher
from splitcodec.frame import Canvas
from splitcodec.packs import Pack
from splitcodec.packs.schema import PICTURE_OUTPUT, TAIL_INPUT
from splitcodec.prompts import Prompt
from splitcodec.runtime import Session, open_session

CODEC_NAME = "splitcodec"
PIXELS_NAME = "splitcodec-pixels"


@dataclass(frozen=True)
class CodecFeature:
    """A pack's codec at one rate, there and back."""

    rate: float
    prompt: Prompt
    encoder: FeatureEncoder
    decoder: FeatureDecoder

    def round_trip(self, canvas: Canvas) -> tuple[NDArray[np.float32], int]:
        """The decoded feature [1, Ch, H/8, W/8], and the bytes that would travel."""
        size = (canvas.source_height, canvas.source_width)
        frame = self.encoder.compress(canvas.pixels, self.prompt, self.rate, size)
        return self.decoder.decompress(frame.data).feature, len(frame.data)


class CodecSystem:
    """A pack's codec at one rate with the pack's own tail behind it."""

    codec = CODEC_NAME

    def __init__(self, feature: CodecFeature, tail: Session) -> None:
        self.rate: float | None = feature.rate
        self._feature = feature
        self._tail = tail

    def look(self, canvas: Canvas) -> Sighting:
        """Compress, decompress, run the tail."""
        feature, num_bytes = self._feature.round_trip(canvas)
        return Sighting(self._tail.run({TAIL_INPUT: feature}), num_bytes)


class PixelSystem:
    """The same bytes for a network that was not split: a picture is made of the feature, the teacher sees it.

    The prompt is the task's own, so this is what the codec gives a network that knows nothing of it.
    """

    codec = PIXELS_NAME

    def __init__(self, feature: CodecFeature, extractor: Session, teacher: Teacher) -> None:
        self.rate: float | None = feature.rate
        self._feature = feature
        self._extractor = extractor
        self._teacher = teacher

    def look(self, canvas: Canvas) -> Sighting:
        """Compress, decompress, make the picture, run the teacher."""
        feature, num_bytes = self._feature.round_trip(canvas)
        picture = self._extractor.run({TAIL_INPUT: feature})[PICTURE_OUTPUT][0]
        pixels = np.ascontiguousarray(np.rint(picture).astype(np.uint8).transpose(1, 2, 0))
        return Sighting(self._teacher.run(pixels), num_bytes)


def codec_systems(
    pack: Pack, task: str, rates: Sequence[float], engine: str, threads: int, teacher: Teacher
) -> list[CodecSystem | PixelSystem]:
    """One system per rate, all on the same sessions; then the pixel form, if the pack holds an extractor."""
    prompt = pack.prompt(task)
    encoder = FeatureEncoder(pack, engine=engine, threads=threads)
    decoder = FeatureDecoder(pack, engine=engine, threads=threads)
    features = [CodecFeature(rate, prompt, encoder, decoder) for rate in rates]
    tail = open_session(pack.tail_bytes(task), engine=engine, threads=threads)
    systems: list[CodecSystem | PixelSystem] = [CodecSystem(feature, tail) for feature in features]
    if (data := pack.picture_bytes()) is not None:
        extractor = open_session(data, engine=engine, threads=threads)
        systems += [PixelSystem(feature, extractor, teacher) for feature in features]
    return systems

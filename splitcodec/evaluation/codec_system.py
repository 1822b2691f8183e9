"""A pack's codec as a system to measure, through the same encoder and decoder as the services."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.errors import SettingsError
from splitcodec.evaluation.systems import SystemOutput, TeacherSystem
from splitcodec.frame import Canvas
from splitcodec.packs import Pack
from splitcodec.packs.schema import PICTURE_OUTPUT, TAIL_INPUT
from splitcodec.prompts import Prompt
from splitcodec.runtime import Session, open_session

CODEC_NAME = "splitcodec"
PIXELS_NAME = "splitcodec-pixels"
MeasuredStudent = Literal["feature", "pixels", "both"]


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

    def run(self, canvas: Canvas) -> SystemOutput:
        """Compress, decompress, run the tail."""
        feature, num_bytes = self._feature.round_trip(canvas)
        return SystemOutput(self._tail.run({TAIL_INPUT: feature}), num_bytes)


class PixelSystem:
    """The same bytes for a network that was not split: a picture is made of the feature, the teacher sees it.

    The prompt is the task's own, so this is what the codec gives a network that knows nothing of it.
    """

    codec = PIXELS_NAME

    def __init__(self, feature: CodecFeature, extractor: Session, teacher: TeacherSystem) -> None:
        self.rate: float | None = feature.rate
        self._feature = feature
        self._extractor = extractor
        self._teacher = teacher

    def run(self, canvas: Canvas) -> SystemOutput:
        """Compress, decompress, make the picture, run the teacher."""
        feature, num_bytes = self._feature.round_trip(canvas)
        picture = self._extractor.run({TAIL_INPUT: feature})[PICTURE_OUTPUT][0]
        pixels = np.ascontiguousarray(np.rint(picture).astype(np.uint8).transpose(1, 2, 0))
        return SystemOutput(self._teacher.predict(pixels), num_bytes)


def codec_features(
    pack: Pack, task: str, rates: Sequence[float], engine: str, threads: int
) -> list[CodecFeature]:
    """The codec at each rate with a task's prompt, all on the same sessions."""
    encoder = FeatureEncoder(pack, engine=engine, threads=threads)
    decoder = FeatureDecoder(pack, engine=engine, threads=threads)
    return [CodecFeature(rate, pack.prompt(task), encoder, decoder) for rate in rates]


def codec_systems(
    pack: Pack,
    task: str,
    rates: Sequence[float],
    engine: str,
    threads: int,
    teacher: TeacherSystem,
    student: MeasuredStudent = "feature",
) -> list[CodecSystem | PixelSystem]:
    """One system per rate and form asked for, all on the same sessions: with the task's tail, then as pixels.

    SettingsError: pixels of a pack without a picture extractor.
    """
    features = codec_features(pack, task, rates, engine, threads)
    systems: list[CodecSystem | PixelSystem] = []
    if student != "pixels":
        tail = open_session(pack.tail_bytes(task), engine=engine, threads=threads)
        systems += [CodecSystem(feature, tail) for feature in features]
    if student != "feature":
        data = pack.picture_bytes()
        if data is None:
            raise SettingsError(
                f"pack {pack.name} holds no picture extractor, which --student {student} needs; "
                "leave --student out, or export the pack again"
            )
        extractor = open_session(data, engine=engine, threads=threads)
        systems += [PixelSystem(feature, extractor, teacher) for feature in features]
    return systems


def codec_under_test(student: MeasuredStudent) -> str:
    """Whose rows the picture codecs are compared with: the pixel form's if nothing else was measured."""
    return PIXELS_NAME if student == "pixels" else CODEC_NAME

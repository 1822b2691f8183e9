"""What importance maps are worth: the same codec, each photo steered by the maps of the photo before it.

A selector that learned a constant would lose nothing by that (Prompt-ICM's maps are meant to follow the
picture); such a selector is a defect. Read it at equal bytes: other maps also change how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitcodec.codec import EncodedFrame
from splitcodec.errors import SettingsError
from splitcodec.evaluation.codec_system import CodecFeature, codec_features
from splitcodec.evaluation.systems import SystemOutput
from splitcodec.frame import Canvas
from splitcodec.packs import Pack
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.runtime import Session, open_session

SHUFFLED_NAME = "splitcodec-shuffled"


class ShuffledMapsSystem:
    """A pack's codec at one rate with the maps of the photo seen last; the first gets its own, turned."""

    codec = SHUFFLED_NAME

    def __init__(self, feature: CodecFeature, tail: Session) -> None:
        self.rate: float | None = feature.rate
        self._feature = feature
        self._tail = tail
        self._before: NDArray[np.float32] | None = None

    def run(self, canvas: Canvas) -> SystemOutput:
        """Compress with another photo's maps, decompress, run the tail. SettingsError without maps."""
        own = self._maps(self._compress(canvas, None))
        other = own[:, ::-1, ::-1] if self._before is None else self._before
        self._before = own
        frame = self._compress(canvas, resized_maps(other, own.shape[1], own.shape[2]))
        feature = self._feature.decoder.decompress(frame.data).feature
        return SystemOutput(self._tail.run({TAIL_INPUT: feature}), frame.num_bytes)

    def _compress(self, canvas: Canvas, importance: NDArray[np.float32] | None) -> EncodedFrame:
        size = (canvas.source_height, canvas.source_width)
        return self._feature.encoder.compress(
            canvas.pixels, self._feature.prompt, self._feature.rate, size, importance
        )

    def _maps(self, frame: EncodedFrame) -> NDArray[np.float32]:
        if frame.importance is None:
            raise SettingsError("this pack's prompts have no importance maps; leave --shuffle-maps out")
        return frame.importance


def shuffled_systems(
    pack: Pack, task: str, rates: Sequence[float], engine: str, threads: int
) -> list[ShuffledMapsSystem]:
    """One system per rate."""
    tail = open_session(pack.tail_bytes(task), engine=engine, threads=threads)
    features = codec_features(pack, task, rates, engine, threads)
    return [ShuffledMapsSystem(feature, tail) for feature in features]


def resized_maps(maps: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """[M, h, w] float32 -> [M, rows, columns], bilinear."""
    resized = [Image.fromarray(one).resize((columns, rows), Image.Resampling.BILINEAR) for one in maps]
    return np.stack([np.asarray(one, dtype=np.float32) for one in resized])

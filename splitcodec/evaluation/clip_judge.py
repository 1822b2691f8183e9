"""How far answers to a clip agree with what the whole teacher finds in its uncoded frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitcodec.evaluation.average_precision import FoundBoxes, draw_resamples
from splitcodec.evaluation.clip_boxes import BoxFiles, is_trusted
from splitcodec.evaluation.dataset import Dataset, Photo
from splitcodec.evaluation.detection import BoxRules, DetectionScorer
from splitcodec.evaluation.rows import RESAMPLES, SEED
from splitcodec.evaluation.systems import Outputs, TeacherSystem
from splitcodec.frame import Canvas


@dataclass(frozen=True)
class Agreement:
    """AP over IoU 0.50 to 0.95, and at 0.50; low, high: 95 % interval of the first."""

    over_all: float
    at_50: float
    low: float
    high: float


def draw_seconds(frames: int, fps: float) -> NDArray[np.int64]:
    """[RESAMPLES, frames]: how often each frame is drawn when seconds of a clip are drawn with replacement.

    Frames of one second are alike; drawn one by one they would make the interval too narrow.
    """
    length = max(1, round(fps))
    seconds = draw_resamples(-(-frames // length), RESAMPLES, SEED)
    return np.repeat(seconds, length, axis=1)[:, :frames]


class ClipJudge:
    """Holds outputs against what the teacher finds in the frames as they are."""

    def __init__(
        self,
        canvases: Sequence[Canvas],
        teacher: TeacherSystem,
        labels: Sequence[str],
        rules: BoxRules,
        fps: float,
    ) -> None:
        self._resamples = draw_seconds(len(canvases), fps)
        self._canvases = canvases
        self._photos = [
            Photo(number, f"{number}", canvas.source_height, canvas.source_width)
            for number, canvas in enumerate(canvases)
        ]
        found = self._found([teacher.predict(canvas.pixels) for canvas in canvases], labels, rules)
        truths = [(one, int(row)) for one in found for row in np.flatnonzero(is_trusted(one))]
        self.boxes = len(truths)
        self._scorer = DetectionScorer(Dataset(BoxFiles(self._photos, truths, labels), "clip"), labels, rules)

    def score(self, outputs: Sequence[Outputs]) -> Agreement:
        """Of outputs frame by frame."""
        found = [
            self._scorer.read_outputs(photo, canvas.size, one)
            for photo, canvas, one in zip(self._photos, self._canvases, outputs, strict=True)
        ]
        score = self._scorer.score(found, found, self._resamples)
        low, high = np.quantile(score.resampled, [0.025, 0.975])
        return Agreement(score.accuracy, score.detail["map50"], float(low), float(high))

    def _found(self, outputs: Sequence[Outputs], labels: Sequence[str], rules: BoxRules) -> list[FoundBoxes]:
        scorer = DetectionScorer(Dataset(BoxFiles(self._photos, [], labels), "clip"), labels, rules)
        return [
            scorer.read_outputs(photo, canvas.size, one)
            for photo, canvas, one in zip(self._photos, self._canvases, outputs, strict=True)
        ]

"""Classes scored by top-1 against labels, and by agreement with the uncompressed teacher."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from splitcodec.evaluation.dataset import Photo
from splitcodec.evaluation.labelled_photos import LabelledPhotos
from splitcodec.evaluation.scorer import Metric, Score
from splitcodec.evaluation.systems import Outputs
from splitcodec.placement import FrameSize
from splitcodec.tasks.classify import class_logits
from splitcodec.tasks.tail_outputs import check_labels

TOP = 5
Ranking = NDArray[np.int64]
"""The TOP best classes of a photo, best first."""
_ANSWERS = "the class of the highest logit"


class ClassificationScorer:
    """Photos with one class each; where the data set knows none, the teacher's answers are the truth."""

    def __init__(self, photos: LabelledPhotos, labels: Sequence[str]) -> None:
        """photos: with classes of these labels, the task's."""
        self._set = photos
        self._labels = labels
        self._truth = None if photos.classes is None else np.array(photos.classes, dtype=np.int64)
        self.data = photos.name
        self.photos = photos.photos
        self.truths = 0 if self._truth is None else len(self._truth)
        self.metric = (
            Metric("agreement", "agreement", "share of photos with the teacher's own best class", _ANSWERS)
            if self._truth is None
            else Metric("top1", "top-1", "share of photos whose best class is the true one", _ANSWERS)
        )

    def read_photo(self, photo: Photo) -> bytes:
        """See Scorer."""
        return self._set.read(photo)

    def read_outputs(self, photo: Photo, size: FrameSize, outputs: Outputs) -> Ranking:
        """The best classes; GraphFailed if the outputs have other classes than the labels."""
        logits = class_logits(outputs)
        check_labels(len(logits), self._labels)
        return np.argsort(-logits, kind="stable")[:TOP].astype(np.int64)

    def score(self, seen: Sequence[Ranking], teacher: Sequence[Ranking], weights: NDArray[np.int64]) -> Score:
        """top-1 with top-5 and agreement beside it, or agreement alone."""
        found = np.stack(seen)
        agrees = found[:, 0] == np.stack(teacher)[:, 0]
        if self._truth is None:
            return _score(agrees, weights, {})
        right = found == self._truth[:, None]
        detail = {"top5": float(right.any(axis=1).mean()), "agreement": float(agrees.mean())}
        return _score(right[:, 0], weights, detail)


def _score(hits: NDArray[np.bool_], weights: NDArray[np.int64], detail: dict[str, float]) -> Score:
    return Score(float(hits.mean()), weights @ hits / weights.sum(axis=1), detail)

"""Boxes scored by COCO average precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import DatasetError
from splitcodec.evaluation.average_precision import (
    MAX_DETECTIONS,
    FoundBoxes,
    Matcher,
    mean_precision,
    precision_of,
)
from splitcodec.evaluation.dataset import Dataset, Photo
from splitcodec.evaluation.scorer import Metric, Score
from splitcodec.evaluation.systems import Outputs
from splitcodec.placement import FrameSize
from splitcodec.tasks import BoxArrays, decode_yolox, suppress_overlaps
from splitcodec.tasks.retinanet import decode_retinanet, retinanet_classes
from splitcodec.tasks.tail_outputs import check_labels
from splitcodec.tasks.yolox import boxes_to_source, class_count


@dataclass(frozen=True)
class BoxRules:
    """How a detector's outputs become boxes, and which count: minimum score, IoU above which one goes."""

    count_classes: Callable[[Outputs], int]
    decode: Callable[[Outputs, FrameSize, float], BoxArrays]
    score_threshold: float
    iou_threshold: float


def _yolox_boxes(outputs: Outputs, size: FrameSize, threshold: float) -> BoxArrays:
    return decode_yolox(outputs, threshold, every_class=True)


YOLOX_RULES = BoxRules(class_count, _yolox_boxes, 0.01, 0.65)
RETINANET_RULES = BoxRules(retinanet_classes, decode_retinanet, 0.05, 0.5)  # torchvision's own


class DetectionScorer:
    """COCO boxes. Classes the data set does not annotate are left out."""

    def __init__(self, dataset: Dataset, labels: Sequence[str], rules: BoxRules = YOLOX_RULES) -> None:
        """labels: class names in the detector's order; DatasetError if the data set knows none of them."""
        self._rules = rules
        self.metric = Metric(
            key="map",
            name="mAP",
            definition="COCO bbox AP 0.50:0.95 (and 0.50) by pycocotools, all photos, boxes in source pixels",
            answers=f"score > {rules.score_threshold}, every class of a cell, per-class NMS "
            f"{rules.iou_threshold}, at most {MAX_DETECTIONS} per photo",
        )
        self._dataset = dataset
        self._labels = labels
        self._categories = category_ids(dataset, labels)
        self._matcher = Matcher(dataset)
        self.data = dataset.name
        self.photos = dataset.photos
        self.truths = len(dataset.truths)

    def read_photo(self, photo: Photo) -> bytes:
        """See Scorer."""
        return self._dataset.read(photo)

    def read_outputs(self, photo: Photo, size: FrameSize, outputs: Outputs) -> FoundBoxes:
        """Every class above the threshold, suppressed per class, in source pixels; or GraphFailed."""
        check_labels(self._rules.count_classes(outputs), self._labels)
        candidates = self._rules.decode(outputs, size, self._rules.score_threshold)
        known = candidates.take(np.flatnonzero(self._categories[candidates.class_ids] >= 0))
        final = suppress_overlaps(known, self._rules.iou_threshold, MAX_DETECTIONS)
        boxes = boxes_to_source(final.boxes, size)
        return FoundBoxes(photo.photo_id, boxes, final.scores, self._categories[final.class_ids])

    def score(
        self, seen: Sequence[FoundBoxes], teacher: Sequence[FoundBoxes], weights: NDArray[np.int64]
    ) -> Score:
        """mAP, and mAP at IoU 0.50 beside it."""
        matches = self._matcher.match(seen)
        precision = precision_of(matches)
        return Score(precision.map, mean_precision(matches, weights), {"map50": precision.map50})


def category_ids(dataset: Dataset, labels: Sequence[str]) -> NDArray[np.int64]:
    """The data set's category id of each label by name, -1 where it has none; DatasetError if none fits."""
    by_name = {category.name: category.category_id for category in dataset.categories}
    known = np.array([by_name.get(label, -1) for label in labels], dtype=np.int64)
    if not (known >= 0).any():
        raise DatasetError(
            f"{dataset.name} annotates none of the task's {len(labels)} labels ({', '.join(labels[:3])}, ...)"
        )
    return known

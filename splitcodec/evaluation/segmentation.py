"""Class maps scored by mean intersection over union against masks/*.png."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splitcodec.errors import DatasetError
from splitcodec.evaluation.dataset import Dataset, Photo
from splitcodec.evaluation.scorer import Metric, Score, ratio
from splitcodec.evaluation.systems import Outputs
from splitcodec.placement import FrameSize
from splitcodec.tasks.deeplab import class_map, segment_logits
from splitcodec.tasks.tail_outputs import check_labels

IGNORED = 255  # mask value of pixels that do not count
Confusion = NDArray[np.int64]
"""[classes, classes] pixels of a photo: rows by the mask, columns by the answer."""


class SegmentationScorer:
    """Photos with a mask in which pixel value k is class k of the labels; photos without one are left out."""

    metric = Metric(
        key="miou",
        name="mIoU",
        definition="intersection over union of all photos' pixels together, mean over the classes in their "
        f"masks; at source size, {IGNORED} ignored",
        answers="logits upsampled bilinearly on their own grid to the photo's size, argmax",
    )

    def __init__(self, dataset: Dataset, labels: Sequence[str], centred: bool = False) -> None:
        """DatasetError if there is no mask, or a mask has another size than its photo or unknown classes.

        centred: where the logits lie, see splitcodec.tasks.deeplab.
        """
        self._dataset = dataset
        self._centred = centred
        self._labels = labels
        self._classes = len(labels)
        self._masks = {photo.photo_id: data for photo in dataset.photos if (data := dataset.mask(photo))}
        self.photos = tuple(photo for photo in dataset.photos if photo.photo_id in self._masks)
        self.data = dataset.name
        self.truths = len(self.photos)
        if not self.photos:
            raise DatasetError(f"{dataset.name} holds no masks/*.png; segmentation cannot be measured on it")
        for photo in self.photos:
            self._mask(photo)

    def read_photo(self, photo: Photo) -> bytes:
        """See Scorer."""
        return self._dataset.read(photo)

    def read_outputs(self, photo: Photo, size: FrameSize, outputs: Outputs) -> Confusion:
        """Pixels by true and found class; GraphFailed if the outputs have other classes than the labels."""
        truth = self._mask(photo)
        logits = segment_logits(outputs, size)
        check_labels(len(logits), self._labels)
        found = class_map(logits, size, photo.height, photo.width, self._centred)
        counted = truth != IGNORED
        pairs = truth[counted].astype(np.int64) * self._classes + found[counted]
        return np.bincount(pairs, minlength=self._classes**2).reshape(self._classes, self._classes)

    def score(
        self, seen: Sequence[Confusion], teacher: Sequence[Confusion], weights: NDArray[np.int64]
    ) -> Score:
        """mIoU, and the share of pixels with the right class."""
        each = np.stack(seen)
        total = each.sum(axis=0)
        drawn = (weights @ each.reshape(len(each), -1)).reshape(-1, self._classes, self._classes)
        right = float(np.trace(total) / max(1, total.sum()))
        return Score(float(mean_iou(total[None])[0]), mean_iou(drawn), {"pixel_accuracy": right})

    def _mask(self, photo: Photo) -> NDArray[np.uint8]:
        """[h, w] class of each pixel, or IGNORED."""
        try:
            with Image.open(io.BytesIO(self._masks[photo.photo_id]), formats=["PNG"]) as image:
                mask = np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise DatasetError(f"the mask of {photo.file_name} is no readable PNG: {error}") from error
        if mask.shape != (photo.height, photo.width) or mask.dtype != np.uint8:
            raise DatasetError(
                f"the mask of {photo.file_name} is {mask.dtype}{list(mask.shape)}; it must hold one byte for "
                f"each of {photo.height}x{photo.width} pixels"
            )
        if (highest := int(mask[mask != IGNORED].max(initial=0))) >= self._classes:
            raise DatasetError(
                f"the mask of {photo.file_name} has class {highest}; the task has {self._classes} classes"
            )
        return mask


def mean_iou(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """[n] mean over the classes that the masks hold, of [n, classes, classes]; 0 where they hold none."""
    shared = np.diagonal(confusions, axis1=1, axis2=2).astype(np.float64)
    true, found = confusions.sum(axis=2), confusions.sum(axis=1)
    present = true > 0
    each = ratio(shared, (true + found - shared).astype(np.float64))
    return ratio((each * present).sum(axis=1), present.sum(axis=1).astype(np.float64))

"""Runs every system over every photo once and keeps what is needed for the rows: bytes and boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from splitcodec.errors import DatasetError
from splitcodec.evaluation.average_precision import MAX_DETECTIONS, FoundBoxes
from splitcodec.evaluation.dataset import Dataset, Photo
from splitcodec.evaluation.systems import Outputs, System
from splitcodec.frame import Canvas, read_canvas
from splitcodec.packs.schema import InputConvention
from splitcodec.tasks import FrameSize, decode_yolox, suppress_overlaps
from splitcodec.tasks.yolox import boxes_to_source

SCORE_THRESHOLD = 0.01
IOU_THRESHOLD = 0.65


@dataclass
class Record:
    """One system on a data set: bytes of each photo in order (none if it codes nothing), and its boxes."""

    codec: str
    rate: float | None
    num_bytes: list[int] = field(default_factory=list)
    found: list[FoundBoxes] = field(default_factory=list)


def measure(
    dataset: Dataset,
    systems: Sequence[System],
    convention: InputConvention,
    labels: Sequence[str],
    advance: Callable[[], None],
) -> list[Record]:
    """One record per system, in order; advance is called after each system on each photo.

    labels: class names in the detector's order; classes the data set does not annotate are left out.
    DatasetError if the data set knows none of the labels, or states another size than a photo has.
    """
    categories = category_ids(dataset, labels)
    records = [Record(system.codec, system.rate) for system in systems]
    for photo in dataset.photos:
        canvas = read_canvas(dataset.read(photo), None, convention)
        _check_size(photo, canvas)
        for system, record in zip(systems, records, strict=True):
            sighting = system.look(canvas)
            if sighting.num_bytes is not None:
                record.num_bytes.append(sighting.num_bytes)
            record.found.append(_boxes(photo, canvas, sighting.outputs, categories))
            advance()
    return records


def category_ids(dataset: Dataset, labels: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The data set's category id of each label by name, -1 where it has none; DatasetError if none fits."""
    by_name = {category.name: category.category_id for category in dataset.categories}
    known = np.array([by_name.get(label, -1) for label in labels], dtype=np.int64)
    if not (known >= 0).any():
        raise DatasetError(
            f"{dataset.name} annotates none of the task's {len(labels)} labels ({', '.join(labels[:3])}, ...)"
        )
    return known


def _check_size(photo: Photo, canvas: Canvas) -> None:
    if (canvas.source_height, canvas.source_width) != (photo.height, photo.width):
        raise DatasetError(
            f"{photo.file_name} is {canvas.source_width}x{canvas.source_height}, its annotations are for"
            f" {photo.width}x{photo.height}; correct the annotations or remove the photo"
        )


def _boxes(
    photo: Photo, canvas: Canvas, outputs: Outputs, categories: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> FoundBoxes:
    """Every class above the threshold, suppressed per class, in source pixels."""
    candidates = decode_yolox(outputs, SCORE_THRESHOLD, every_class=True)
    known = candidates.take(np.flatnonzero(categories[candidates.class_ids] >= 0))
    final = suppress_overlaps(known, IOU_THRESHOLD, MAX_DETECTIONS)
    size = FrameSize(photo.height, photo.width, *canvas.pixels.shape[:2])
    return FoundBoxes(
        photo.photo_id, boxes_to_source(final.boxes, size), final.scores, categories[final.class_ids]
    )

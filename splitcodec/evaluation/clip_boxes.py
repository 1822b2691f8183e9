"""Boxes that a teacher found, as the annotations of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitcodec.evaluation.average_precision import FoundBoxes
from splitcodec.evaluation.dataset import Photo

TRUSTED: Final = 0.3  # the teacher's own boxes from this score on are what is to be found


class BoxFiles:
    """A data set's annotations as the files that Dataset reads."""

    def __init__(
        self, photos: Sequence[Photo], truths: Sequence[tuple[FoundBoxes, int]], labels: Sequence[str]
    ) -> None:
        boxes = [(one.photo_id, one.category_ids[row], one.boxes[row].tolist()) for one, row in truths]
        document = {
            "images": [
                {"id": one.photo_id, "file_name": one.file_name, "height": one.height, "width": one.width}
                for one in photos
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(labels)],
            "annotations": [
                {"id": number, "image_id": photo, "category_id": int(category), "iscrowd": 0, **_place(box)}
                for number, (photo, category, box) in enumerate(boxes)
            ],
        }
        self._data = json.dumps(document).encode()

    def names(self) -> list[str]:
        """See Files."""
        return ["instances.json"]

    def read(self, name: str) -> bytes:
        """See Files."""
        return {"instances.json": self._data}[name]


def is_trusted(found: FoundBoxes) -> NDArray[np.bool_]:
    """[n]: whether a box of the teacher is to be found; one that lies on the border may have no area."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    trusted: NDArray[np.bool_] = (found.scores >= TRUSTED) & (sides > 0).all(axis=1)
    return trusted


def _place(box: Sequence[float]) -> dict[str, object]:
    x1, y1, x2, y2 = box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

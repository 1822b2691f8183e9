"""COCO polygons as a mask of the 21 VOC classes, by torchvision's rule for its segmenters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from splitcodec.errors import DatasetError

# COCO category of each VOC class from 1 on (aeroplane, bicycle, ...), as in torchvision's reference scripts.
VOC_CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
OVERLAP = 255


def mask_of(
    annotations: Sequence[Mapping[str, object]], size: tuple[int, int], where: str = "annotations"
) -> np.ndarray:
    """(h, w) uint8: 0 background, k VOC class k, OVERLAP where two objects of these classes lie.

    size: height and width; where: how messages call the file. Other categories are background. DatasetError
    for a segmentation that is no shape on such a picture, and without pycocotools.
    """
    try:
        from pycocotools import mask as coco
    except ModuleNotFoundError as error:
        raise DatasetError("COCO polygons need pycocotools: pip install '.[train,eval,cpu]'") from error
    result = np.zeros(size, np.uint8)
    covered = np.zeros(size, np.uint8)
    for row in annotations:
        category = int(float(str(row["category_id"])))
        if category not in VOC_CATEGORIES or "segmentation" not in row:
            continue
        shape = row["segmentation"]
        try:
            runs = coco.merge(coco.frPyObjects(shape, *size)) if isinstance(shape, list) else shape
            inside = coco.decode(runs).astype(bool)
            result[inside] = VOC_CATEGORIES.index(category) + 1
        except Exception as error:  # pycocotools has no class of its own for what it refuses
            raise DatasetError(
                f"{where}: annotation {row.get('id')} of image {row.get('image_id')} has a segmentation that "
                f"is no shape on {size[1]}x{size[0]} pixels ({error!r}): mend it or take it out"
            ) from error
        covered[inside] += 1
    result[covered > 1] = OVERLAP
    return result

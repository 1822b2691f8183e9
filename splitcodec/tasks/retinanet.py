"""RetinaNet outputs to boxes: torchvision's anchors, box decoding, the best of each level, suppression."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize
from splitcodec.tasks.detections import Detection, Detections
from splitcodec.tasks.drawing import Box
from splitcodec.tasks.tail_outputs import ResultLimits, check_labels, the_output
from splitcodec.tasks.yolox import BoxArrays, boxes_to_source, suppress_overlaps

LEVELS = (8, 16, 32, 64, 128)  # nominal strides of the pyramid's levels P3 to P7
BASE_SIDES = (32, 64, 128, 256, 512)  # of the anchors at each level; each also times 2^(1/3) and 2^(2/3)
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height over width
ANCHORS_PER_CELL = 3 * len(ASPECT_RATIOS)
CANDIDATES_PER_LEVEL = 1000
MAX_LOG_SIDE = np.float32(np.log(1000.0 / 16.0))


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of each level; every level is half of the one before, rounded up.

    height, width: of the canvas in pixels, multiples of 32.
    """
    rows, columns = height // LEVELS[0], width // LEVELS[0]
    sizes = [(rows, columns)]
    for _ in LEVELS[1:]:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
        sizes.append((rows, columns))
    return sizes


@lru_cache(maxsize=8)
def anchors_of(height: int, width: int) -> tuple[NDArray[np.float32], ...]:
    """Each level's anchors [n, 4], x1 y1 x2 y2 in canvas pixels: row by row, a cell's nine in a row."""
    return tuple(
        _level_anchors(height, width, rows, columns, side)
        for (rows, columns), side in zip(level_sizes(height, width), BASE_SIDES, strict=True)
    )


def _level_anchors(height: int, width: int, rows: int, columns: int, side: int) -> NDArray[np.float32]:
    sides = np.array([side, int(side * 2 ** (1.0 / 3)), int(side * 2 ** (2.0 / 3))], np.float32)
    tall = np.sqrt(np.array(ASPECT_RATIOS, np.float32))
    heights = (tall[:, None] * sides).ravel()
    widths = ((1.0 / tall)[:, None] * sides).ravel()
    cell = np.round(np.stack([-widths, -heights, widths, heights], axis=1) / 2)
    x, y = np.meshgrid(np.arange(columns) * (width // columns), np.arange(rows) * (height // rows))
    corner = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], axis=1)
    anchors: NDArray[np.float32] = (corner[:, None, :] + cell).reshape(-1, 4).astype(np.float32)
    return anchors


def decode_boxes(deltas: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, 4] deltas dx dy dw dh of [n, 4] anchors -> [n, 4] boxes x1 y1 x2 y2."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    half = 0.5 * np.exp(np.minimum(deltas[:, 2:], MAX_LOG_SIDE)) * sides
    boxes: NDArray[np.float32] = np.concatenate([centre - half, centre + half], axis=1)
    return boxes


def decode_retinanet(
    outputs: Mapping[str, NDArray[np.float32]], size: FrameSize, score_threshold: float
) -> BoxArrays:
    """Candidates above the threshold in canvas pixels, at most CANDIDATES_PER_LEVEL of each level.

    outputs: cls_logits [1, A, classes] and bbox_regression [1, A, 4], level after level. GraphFailed if one
    is missing, or does not fit a canvas of this size. An anchor counts once per class.
    """
    logits = the_output(outputs, "cls_logits", "[1, anchors, classes]")
    deltas = the_output(outputs, "bbox_regression", "[1, anchors, 4]")
    levels = anchors_of(size.network_height, size.network_width)
    wanted = sum(len(level) for level in levels)
    if len(logits) != wanted or deltas.shape != (wanted, 4):
        raise GraphFailed(
            f"the tail gave {len(logits)} class rows and deltas of {deltas.shape}; a canvas of "
            f"{size.network_height}x{size.network_width} has {wanted} anchors"
        )
    ends = np.cumsum([len(level) for level in levels])[:-1]
    parts = [
        _level_boxes(*level, score_threshold)
        for level in zip(np.split(logits, ends), np.split(deltas, ends), levels, strict=True)
    ]
    boxes = np.concatenate([part.boxes for part in parts])
    shown = size.canvas_window
    limits = np.array([shown.left + shown.width, shown.top + shown.height] * 2, np.float32)
    return BoxArrays(
        np.clip(boxes, 0.0, limits),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.class_ids for part in parts]),
    )


def _level_boxes(
    logits: NDArray[np.float32], deltas: NDArray[np.float32], anchors: NDArray[np.float32], threshold: float
) -> BoxArrays:
    """One level's best boxes; anchors with a value that is not finite are dropped."""
    with np.errstate(over="ignore"):
        scores = 1.0 / (1.0 + np.exp(-logits))
    sound = np.isfinite(deltas).all(axis=1)
    chosen, classes = np.nonzero((scores > threshold) & sound[:, None])
    best = np.argsort(-scores[chosen, classes], kind="stable")[:CANDIDATES_PER_LEVEL]
    chosen, classes = chosen[best], classes[best]
    boxes = decode_boxes(deltas[chosen], anchors[chosen])
    return BoxArrays(boxes, scores[chosen, classes].astype(np.float32), classes.astype(np.int64))


def retinanet_classes(outputs: Mapping[str, NDArray[np.float32]]) -> int:
    """How many classes the outputs score; GraphFailed if they are no RetinaNet outputs."""
    return int(the_output(outputs, "cls_logits", "[1, anchors, classes]").shape[1])


def retinanet(
    outputs: Mapping[str, NDArray[np.float32]],
    size: FrameSize,
    labels: Sequence[str],
    limits: ResultLimits,
) -> Detections:
    """Outputs of a RetinaNet tail for one frame to detections in source pixels, best first.

    labels: line k names class k of the logits; torchvision's 91 have `__background__` first and gaps `N/A`.
    GraphFailed if an output is missing, misshaped, or has a class count other than len(labels).
    """
    candidates = decode_retinanet(outputs, size, limits.score_threshold)
    check_labels(retinanet_classes(outputs), labels)
    final = suppress_overlaps(candidates, limits.iou_threshold, limits.max_detections)
    corners = boxes_to_source(final.boxes, size).tolist()
    return Detections(
        tuple(
            Detection(labels[class_id], class_id, score, Box(*corner))
            for corner, score, class_id in zip(
                corners, final.scores.tolist(), final.class_ids.tolist(), strict=True
            )
        )
    )

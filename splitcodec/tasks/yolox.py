"""YOLOX outputs to boxes: grid decoding and per-class suppression, vectorised over cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize
from splitcodec.tasks.detections import Detection, Detections
from splitcodec.tasks.drawing import Box
from splitcodec.tasks.tail_outputs import ResultLimits, check_labels

STRIDES = (8, 16, 32)
BOX_CHANNELS = 4
FIRST_CLASS = 5  # channels: 0-3 box, 4 objectness, 5.. classes
MAX_LOG_SIDE = 12.0  # exp(12) strides is beyond any canvas; keeps exp() finite


@dataclass(frozen=True)
class BoxArrays:
    """n candidate or final boxes as parallel arrays.

    boxes: [n, 4] float32, x1 y1 x2 y2; scores: [n] float32 in [0, 1]; class_ids: [n] int64.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "BoxArrays":
        """The chosen rows, in the order of indices."""
        return BoxArrays(self.boxes[indices], self.scores[indices], self.class_ids[indices])


def decode_yolox(
    outputs: Mapping[str, NDArray[np.float32]], score_threshold: float, *, every_class: bool = False
) -> BoxArrays:
    """Boxes in canvas pixels whose score (objectness times class) exceeds score_threshold.

    outputs: head_s8, head_s16, head_s32, each [1, 5 + classes, h, w] float32 with raw boxes and with
    sigmoids already applied to objectness and classes. GraphFailed if one is missing or misshaped.
    A cell gives one box, with its best class; with every_class, one box per class above the threshold, which
    is what average precision is measured on (a user would see the same object twice).
    """
    scales = [
        _decode_scale(_head(outputs, stride), stride, score_threshold, every_class) for stride in STRIDES
    ]
    return BoxArrays(
        np.concatenate([scale.boxes for scale in scales]),
        np.concatenate([scale.scores for scale in scales]),
        np.concatenate([scale.class_ids for scale in scales]),
    )


def suppress_overlaps(candidates: BoxArrays, iou_threshold: float, max_detections: int) -> BoxArrays:
    """Greedy suppression within each class; at most max_detections boxes, best score first.

    A box goes when its intersection over union with a better one of its class exceeds iou_threshold.
    """
    order = np.argsort(-candidates.scores, kind="stable")
    boxes = candidates.boxes[order].astype(np.float64)
    classes = candidates.class_ids[order]
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    alive = np.ones(len(order), dtype=np.bool_)
    kept: list[int] = []
    for best in range(len(order)):
        if not alive[best]:
            continue
        kept.append(best)
        if len(kept) == max_detections:
            break
        rivals = best + 1 + np.flatnonzero(alive[best + 1 :] & (classes[best + 1 :] == classes[best]))
        overlap = _iou_with(boxes[best], areas[best], boxes[rivals], areas[rivals])
        alive[rivals[overlap > iou_threshold]] = False
    return candidates.take(order[np.asarray(kept, dtype=np.int64)])


def boxes_to_source(boxes: NDArray[np.float32], size: FrameSize) -> NDArray[np.float32]:
    """[n, 4] canvas pixels to source pixels, clipped to the source picture."""
    seen, (down, across) = size.source_window, size.scale
    ends = np.array([size.source_width, size.source_height] * 2, dtype=np.float32)
    start = np.array([seen.left, seen.top] * 2, dtype=np.float32)
    return np.clip(boxes / np.array([across, down] * 2, dtype=np.float32) + start, 0.0, ends)


def yolox(
    outputs: Mapping[str, NDArray[np.float32]],
    size: FrameSize,
    labels: Sequence[str],
    limits: ResultLimits,
) -> Detections:
    """Outputs of a YOLOX tail for one frame to detections in source pixels, best first.

    GraphFailed if an output is missing, misshaped, or has a class count other than len(labels).
    """
    check_labels(class_count(outputs), labels)
    candidates = decode_yolox(outputs, limits.score_threshold)
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


def class_count(outputs: Mapping[str, NDArray[np.float32]]) -> int:
    """How many classes the outputs score; GraphFailed if they are no YOLOX outputs."""
    return int(_head(outputs, STRIDES[0]).shape[0]) - FIRST_CLASS


def _head(outputs: Mapping[str, NDArray[np.float32]], stride: int) -> NDArray[np.float32]:
    """The [5 + classes, h, w] array of one stride."""
    head = outputs.get(f"head_s{stride}")
    if head is None:
        raise GraphFailed(f"the tail gave {sorted(outputs)}; a YOLOX tail gives head_s8, head_s16, head_s32")
    if head.ndim != 4 or head.shape[0] != 1 or head.shape[1] <= FIRST_CLASS:
        raise GraphFailed(
            f"head_s{stride} has shape {head.shape}; expected [1, 5 + classes, h, w], one frame"
        )
    return np.asarray(head[0], dtype=np.float32)


def _decode_scale(
    head: NDArray[np.float32], stride: int, score_threshold: float, every_class: bool
) -> BoxArrays:
    """One stride's boxes in canvas pixels above the threshold; cells that are not finite are dropped."""
    # The score cannot exceed the objectness, so most cells fall here without a look at their classes.
    rows, columns = np.nonzero(
        (head[BOX_CHANNELS] > score_threshold) & np.isfinite(head[:BOX_CHANNELS]).all(axis=0)
    )
    cells = head[:, rows, columns]
    class_scores = cells[BOX_CHANNELS] * cells[FIRST_CLASS:]
    if every_class:
        class_ids, chosen = np.nonzero(class_scores > score_threshold)
    else:
        chosen = np.flatnonzero(class_scores.max(axis=0) > score_threshold)
        class_ids = class_scores[:, chosen].argmax(axis=0)
    raw = cells[:BOX_CHANNELS, chosen]
    centre = (raw[:2] + np.stack([columns[chosen], rows[chosen]])) * stride
    half = np.exp(np.minimum(raw[2:], MAX_LOG_SIDE)) * (stride / 2)
    boxes = np.concatenate([centre - half, centre + half]).T.astype(np.float32)
    return BoxArrays(boxes, class_scores[class_ids, chosen], class_ids.astype(np.int64))


def _iou_with(
    box: NDArray[np.float64], area: float, others: NDArray[np.float64], areas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intersection over union of one box with [m, 4] others; 0 where both are empty."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    union = area + areas - shared
    ratio: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio

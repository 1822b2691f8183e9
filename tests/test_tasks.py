"""YOLOX post-processing: hand-worked boxes, suppression rules, and outputs that do not fit."""

import numpy as np
import pytest
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed, InvalidManifest
from splitcodec.tasks import (
    Box,
    BoxArrays,
    FrameSize,
    ResultLimits,
    decode_yolox,
    postprocess_for,
    suppress_overlaps,
    yolox,
)

LABELS = ("cat", "dog", "bird")
SQUARE = FrameSize(source_height=64, source_width=64, network_height=64, network_width=64)


def blank_outputs(classes: int = 3, side: int = 64) -> dict[str, NDArray[np.float32]]:
    """Heads of an empty 64 x 64 canvas: every score is zero."""
    return {
        f"head_s{stride}": np.zeros((1, 5 + classes, side // stride, side // stride), np.float32)
        for stride in (8, 16, 32)
    }


def place(
    outputs: dict[str, NDArray[np.float32]],
    stride: int,
    cell: tuple[int, int],
    raw: tuple[float, float, float, float],
    objectness: float,
    class_scores: tuple[float, ...],
) -> None:
    """Write one cell (column, row) of one head."""
    column, row = cell
    outputs[f"head_s{stride}"][0, :, row, column] = (*raw, objectness, *class_scores)


def boxes_of(*rows: tuple[float, float, float, float, float, int]) -> BoxArrays:
    """BoxArrays from x1, y1, x2, y2, score, class rows."""
    table = np.array(rows, dtype=np.float64)
    return BoxArrays(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)
    )


def brute_suppression(candidates: BoxArrays, threshold: float, limit: int) -> list[int]:
    """The greedy rule, one pair at a time."""
    kept: list[int] = []
    for i in sorted(range(len(candidates.scores)), key=lambda k: -float(candidates.scores[k])):
        a = candidates.boxes[i].astype(float)
        clear = True
        for j in kept:
            b = candidates.boxes[j].astype(float)
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            shared = width * height
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            if candidates.class_ids[i] == candidates.class_ids[j] and shared / union > threshold:
                clear = False
        if clear:
            kept.append(i)
    return kept[:limit]


def test_one_cell_decodes_to_the_hand_worked_box() -> None:
    outputs = blank_outputs()
    # centre (1 + 0.5, 2 + 0.25) * 16 = (24, 36); sides exp(ln 2) * 16 = 32 and exp(0) * 16 = 16
    place(outputs, 16, (1, 2), (0.5, 0.25, float(np.log(2)), 0.0), 0.5, (0.1, 0.8, 0.2))
    result = yolox(outputs, SQUARE, LABELS, ResultLimits())
    assert len(result.detections) == 1
    found = result.detections[0]
    assert (found.label, found.class_id) == ("dog", 1)
    assert found.score == pytest.approx(0.4, abs=1e-6)
    corners = (found.box.x1, found.box.y1, found.box.x2, found.box.y2)
    assert corners == pytest.approx((8, 28, 40, 44), abs=1e-4)


def test_boxes_come_back_in_source_pixels_and_clipped() -> None:
    outputs = blank_outputs()
    place(outputs, 32, (1, 0), (0.0, 0.5, 1.0, 0.0), 1.0, (1.0, 0.0, 0.0))
    # 128 x 96 in a 64 x 64 canvas: scale 0.5; centre (32, 16), sides 86.99 and 32 leave the canvas sideways
    size = FrameSize(source_height=96, source_width=128, network_height=64, network_width=64)
    assert size.scale == (0.5, 0.5)
    (found,) = yolox(outputs, size, LABELS, ResultLimits()).detections
    assert found.box == Box(0.0, 0.0, 128.0, 64.0)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_every_stride_uses_its_own_grid(stride: int) -> None:
    outputs = blank_outputs()
    place(outputs, stride, (1, 1), (0.0, 0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 1.0))
    decoded = decode_yolox(outputs, 0.5)
    half = stride / 2
    np.testing.assert_allclose(decoded.boxes, [[half, half, 3 * half, 3 * half]])
    assert decoded.class_ids.tolist() == [2]


def test_every_class_gives_one_box_per_class_above_the_threshold() -> None:
    outputs = blank_outputs()
    place(outputs, 8, (3, 3), (0.0, 0.0, 0.0, 0.0), 0.5, (0.9, 0.8, 0.1))
    assert decode_yolox(outputs, 0.25).class_ids.tolist() == [0]
    both = decode_yolox(outputs, 0.25, every_class=True)
    assert both.class_ids.tolist() == [0, 1]
    np.testing.assert_allclose(both.scores, [0.45, 0.4], rtol=1e-6)


def test_the_threshold_is_on_the_product_and_exclusive() -> None:
    outputs = blank_outputs()
    place(outputs, 8, (0, 0), (0.0, 0.0, 0.0, 0.0), 0.5, (0.5, 0.0, 0.0))
    assert len(decode_yolox(outputs, 0.25).scores) == 0
    assert len(decode_yolox(outputs, 0.2499).scores) == 1


def test_boxes_that_are_not_finite_are_dropped_and_huge_ones_stay_finite() -> None:
    outputs = blank_outputs()
    place(outputs, 8, (0, 0), (np.nan, 0.0, 0.0, 0.0), 1.0, (1.0, 0.0, 0.0))
    place(outputs, 8, (1, 0), (0.0, 0.0, np.inf, 0.0), 1.0, (1.0, 0.0, 0.0))
    place(outputs, 8, (2, 0), (0.0, 0.0, 0.0, 0.0), np.nan, (1.0, 0.0, 0.0))
    place(outputs, 8, (4, 4), (0.0, 0.0, 1000.0, 1000.0), 1.0, (1.0, 0.0, 0.0))
    (found,) = yolox(outputs, SQUARE, LABELS, ResultLimits()).detections
    assert found.box == Box(0.0, 0.0, 64.0, 64.0)


def test_suppression_keeps_other_classes_and_small_overlaps() -> None:
    candidates = boxes_of(
        (0, 0, 10, 10, 0.6, 0),
        (0, 0, 10, 9, 0.9, 0),  # IoU 0.9 with the first, better
        (0, 0, 10, 10, 0.5, 1),  # same place, other class
        (5, 0, 15, 10, 0.4, 0),  # IoU with the winner 45 / 145
    )
    final = suppress_overlaps(candidates, 0.65, 100)
    np.testing.assert_allclose(final.scores, [0.9, 0.5, 0.4])
    assert final.class_ids.tolist() == [0, 1, 0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    # b overlaps a (0.9) and c (0.8); c overlaps a by 0.72 only: with 0.75, c lives although b would kill it
    candidates = boxes_of((0, 0, 100, 10, 0.9, 0), (0, 0, 90, 10, 0.8, 0), (0, 0, 72, 10, 0.7, 0))
    assert suppress_overlaps(candidates, 0.75, 100).scores.tolist() == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize("seed", range(8))
def test_suppression_equals_the_pairwise_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (80, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(80).astype(np.float32) / 80
    candidates = BoxArrays(boxes, scores, rng.integers(0, 3, 80))
    for limit in (5, 100):
        expected = brute_suppression(candidates, 0.5, limit)
        np.testing.assert_array_equal(suppress_overlaps(candidates, 0.5, limit).boxes, boxes[expected])


def test_at_most_max_detections() -> None:
    boxes = np.array([[k * 20, 0, k * 20 + 10, 10] for k in range(30)], np.float32)
    candidates = BoxArrays(boxes, np.linspace(0.1, 0.9, 30, dtype=np.float32), np.zeros(30, np.int64))
    final = suppress_overlaps(candidates, 0.65, 7)
    np.testing.assert_allclose(final.scores, np.linspace(0.1, 0.9, 30)[::-1][:7], rtol=1e-6)


def test_an_empty_frame_is_an_empty_result() -> None:
    assert yolox(blank_outputs(), SQUARE, LABELS, ResultLimits()).detections == ()


def test_empty_boxes_do_not_divide_by_zero() -> None:
    candidates = boxes_of((5, 5, 5, 5, 0.9, 0), (5, 5, 5, 5, 0.8, 0))
    assert len(suppress_overlaps(candidates, 0.65, 100).scores) == 2


def test_a_missing_head_is_refused() -> None:
    outputs = blank_outputs()
    del outputs["head_s16"]
    with pytest.raises(GraphFailed, match="head_s8, head_s16, head_s32"):
        yolox(outputs, SQUARE, LABELS, ResultLimits())


@pytest.mark.parametrize("shape", [(2, 8, 8, 8), (8, 8, 8), (1, 5, 8, 8)])
def test_a_misshaped_head_is_refused(shape: tuple[int, ...]) -> None:
    outputs = blank_outputs()
    outputs["head_s8"] = np.zeros(shape, np.float32)
    with pytest.raises(GraphFailed, match="one frame"):
        decode_yolox(outputs, 0.25)


def test_a_label_count_that_does_not_fit_is_refused() -> None:
    with pytest.raises(GraphFailed, match="3 classes, the manifest labels 2"):
        yolox(blank_outputs(), SQUARE, LABELS[:2], ResultLimits())


def test_postprocess_by_name() -> None:
    assert postprocess_for("yolox") is yolox
    known = "classify, deeplab, deeplab_centred, retinanet, yolox"
    with pytest.raises(InvalidManifest, match=f"this build knows: {known}"):
        postprocess_for("ssd")

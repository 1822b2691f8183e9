"""Equations (3)-(8) of the paper against values worked out by hand, and the practical terms of RetinaNet."""

from __future__ import annotations

import math

import pytest
import torch

from splitcodec.errors import TrainingError
from splitcodec.tasks.retinanet import anchors_of
from splitcodec.training.labels import MAX_BOXES, Truth
from splitcodec.training.losses import anchor_errors
from splitcodec.training.paper_losses import (
    AnchorMatches,
    all_anchors,
    box_distance,
    box_entropy,
    box_kl,
    decode,
    iou,
    match,
    mean_squared_error,
    paper_terms,
    pixel_entropy,
)
from splitcodec.training.teacher import TeacherSpec

LN2, LN3 = math.log(2.0), math.log(3.0)


def found(*chosen: bool, classes: tuple[int, ...] = (0, 0)) -> AnchorMatches:
    """Two anchors of one picture."""
    return AnchorMatches(torch.tensor([chosen]), torch.tensor([classes]), torch.zeros(1, 2, 4))


def test_equation_3_is_the_mean_over_all_elements() -> None:
    h = torch.zeros(2, 2, 1, 2)
    student = torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]], [[[0.0, 0.0]], [[0.0, 2.0]]]])
    assert mean_squared_error(student, h).tolist() == [(1 + 4 + 9) / 4, 1.0]


def test_equation_5_sums_over_matched_boxes_and_divides_by_their_number() -> None:
    teacher = torch.tensor([[[0.0, 0.0], [0.0, LN3]]])  # (1/2, 1/2) and (1/4, 3/4)
    student = torch.tensor([[[0.0, LN3], [0.0, 0.0]]])
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert box_kl(student, teacher, found(True, True)).tolist() == pytest.approx([(first + second) / 2])
    assert box_kl(student, teacher, found(True, False)).tolist() == pytest.approx([first])
    assert box_kl(student, teacher, found(False, False)).tolist() == [0.0]


def test_equation_6_counts_pixels_without_a_label_in_n() -> None:
    logits = torch.tensor([[[[0.0, 0.0, 0.0, LN3]], [[0.0, LN3, 0.0, 0.0]]]])  # class 1: 1/2, 3/4, 1/2, 1/4
    mask = torch.tensor([[[1, 1, 255, 0]]])
    want = (LN2 + math.log(4 / 3) + 0.0 + math.log(4 / 3)) / 4
    assert pixel_entropy(logits, mask).tolist() == pytest.approx([want])


def test_equation_7_is_the_entropy_of_the_true_class() -> None:
    student = torch.tensor([[[0.0, LN3], [0.0, 0.0]]])
    assert box_entropy(student, found(True, True, classes=(1, 0))).tolist() == pytest.approx(
        [(math.log(4 / 3) + LN2) / 2]
    )
    assert box_entropy(student, found(True, False, classes=(0, 0))).tolist() == pytest.approx([math.log(4.0)])


def test_equation_8_adds_squared_corners_and_is_divided_by_n_b() -> None:
    student = torch.tensor([[[0.1, 0.2, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]])
    truth = torch.tensor([[[0.0, 0.2, 0.5, 0.7], [0.0, 0.0, 1.0, 0.0]]])
    assert box_distance(student, truth, found(True, True)).tolist() == pytest.approx(
        [(0.01 + 0.04 + 1.0) / 2]
    )


def truth_of(boxes: list[list[float]], classes: list[int], side: int) -> Truth:
    padded, ids = torch.zeros(1, MAX_BOXES, 4), torch.full((1, MAX_BOXES), -1)
    padded[0, : len(boxes)], ids[0, : len(classes)] = torch.tensor(boxes), torch.tensor(classes)
    return Truth(padded, ids, torch.full((1, side, side), 255))


def test_anchor_is_matched_to_its_best_box_above_one_half() -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0], [50.0, 50.0, 60.0, 60.0]])
    truth = truth_of([[0.0, 0.0, 10.0, 12.0], [0.0, 0.0, 10.0, 20.0]], [3, 7], 64)
    overlap = iou(anchors, truth.boxes)[0, :, :2]
    assert overlap.flatten().tolist() == pytest.approx([10 / 12, 0.5, 12 / 20, 1.0, 0.0, 0.0])
    matches = match(anchors, truth)
    assert matches.chosen.tolist() == [[True, True, False]]
    assert matches.classes[0, :2].tolist() == [3, 7]
    assert matches.count.tolist() == [2]
    assert match(anchors, truth_of([[0.0, 0.0, 5.0, 10.0]], [1], 64)).chosen.tolist() == [[False] * 3]


def test_decoding_is_that_of_the_postprocess() -> None:
    from splitcodec.tasks.retinanet import decode_boxes

    torch.manual_seed(0)
    anchors = all_anchors(64)
    deltas = torch.randn(2, len(anchors), 4) * 3
    assert len(anchors) == sum(len(level) for level in anchors_of(64, 64))
    for ours, one in zip(decode(deltas, anchors), deltas, strict=True):
        assert torch.allclose(ours, torch.from_numpy(decode_boxes(one.numpy(), anchors.numpy())), atol=1e-2)


def test_whole_detection_loss_is_zero_for_a_teacher_that_is_right() -> None:
    spec = TeacherSpec("detect", "s", 4, False, ("cls_logits", "bbox_regression"), (), anchored=True)
    anchors = all_anchors(64)
    box = anchors[40].tolist()
    truth = truth_of([box], [2], 64)
    logits = torch.zeros(1, len(anchors), 5)
    logits[..., 2] = 50.0
    matches = match(anchors, truth)
    assert 0 < matches.count.item() < len(anchors)
    exact = torch.zeros(1, len(anchors), 4)
    sides = anchors[:, 2:] - anchors[:, :2]
    wanted = anchors[40]
    exact[0, :, :2] = ((wanted[:2] + wanted[2:]) / 2 - (anchors[:, :2] + anchors[:, 2:]) / 2) / sides
    exact[0, :, 2:] = torch.log((wanted[2:] - wanted[:2]) / sides)
    outputs = {"cls_logits": logits, "bbox_regression": exact}
    terms = paper_terms(outputs, outputs, truth, spec, 64)
    assert set(terms) == {"kl", "bce", "box"}
    assert all(value.item() == pytest.approx(0.0, abs=1e-6) for value in terms.values())
    moved = paper_terms({**outputs, "bbox_regression": exact + 1.0}, outputs, truth, spec, 64)
    assert moved["box"].item() > 0.1


def test_segmentation_is_compared_on_the_pictures_pixels() -> None:
    spec = TeacherSpec("segment", "s", 4, False, ("logits",), ())
    logits = {"logits": torch.zeros(1, 2, 2, 2)}
    truth = Truth(torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.ones(1, 16, 16, dtype=torch.int64))
    terms = paper_terms(logits, logits, truth, spec, 16)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx({"kl": 0.0, "pce": LN2})
    flat = {"logits": torch.zeros(1, 2)}
    with pytest.raises(TrainingError, match="not for segment; use --losses practical"):
        paper_terms(flat, flat, truth, spec, 16)


def test_practical_anchor_terms_by_hand() -> None:
    teacher = torch.tensor([[[LN3, 0.0], [-LN3, -LN3]]])  # best probabilities 3/4 and 1/4: N_b + 1 = 2
    student = torch.tensor([[[0.0, 0.0], [-LN3, 0.0]]])
    deltas = torch.zeros(1, 2, 4)
    moved = deltas.clone()
    moved[0, 0, 0], moved[0, 1, 3] = 0.1, 2.0
    terms = anchor_errors(student, teacher, moved, deltas)
    from_three = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # Bernoulli(3/4) from Bernoulli(1/2)
    from_one = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert terms["kl"].tolist() == pytest.approx([(0.75 * from_three + 0.25 * from_one) / 2], rel=1e-5)
    # p - p^ is 1/4 in both places that differ; cross-entropy of Bernoulli(1/2) is ln 2 whatever the target
    assert terms["focal"].tolist() == pytest.approx([2 * LN2 / 16 / 2], rel=1e-5)
    assert terms["box"].tolist() == pytest.approx([(0.75 * 0.045 + 0.25 * (2 - 1 / 18)) / 2], rel=1e-5)
    still = anchor_errors(teacher, teacher, deltas, deltas)
    assert all(value.abs().max() < 1e-6 for value in still.values())


def test_background_is_trained_by_the_focal_term_alone() -> None:
    teacher = torch.full((1, 50, 3), -9.0)
    student = torch.full((1, 50, 3), 3.0, requires_grad=True)
    terms = anchor_errors(student, teacher, torch.zeros(1, 50, 4), torch.zeros(1, 50, 4))
    assert terms["kl"].item() < 0.5 < terms["focal"].item()
    terms["focal"].sum().backward()
    assert (student.grad > 0).all()

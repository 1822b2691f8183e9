"""Every loss term against a value worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from splitcodec.training.losses import (
    bernoulli_kl,
    deep_error,
    detection_errors,
    feature_error,
    output_errors,
    softmax_kl,
)
from splitcodec.training.teacher import SplitStatistics, TeacherSpec

LN3 = math.log(3.0)  # the logit of probability 3/4
KL = 0.5 * math.log(4.0 / 3.0)  # KL of Bernoulli(1/2) from Bernoulli(3/4): 0.5 ln(2/3) + 0.5 ln 2 = 0.143841
ONE_LEVEL = TeacherSpec("detect", "split", 2, False, (), (), levels=("s8",))


def grid(*rows: list[float]) -> Tensor:
    """Channels of one row of cells each -> (1, C, 1, cells)."""
    return torch.tensor(rows)[None, :, None, :]


def test_feature_error_is_half_plain_and_half_weighted() -> None:
    statistics = SplitStatistics(torch.tensor([2.0, 4.0]), torch.tensor([3.0, 1.0]))
    target = torch.zeros(1, 2, 1, 2)
    feature = grid([2.0, 2.0], [1.0, -1.0])
    # squared errors 4 and 1: plain (4/2 + 1/4) / 2 = 1.125; weighted (3*4 + 1*1) / (3*2 + 1*4) = 1.3
    assert feature_error(feature, target, statistics).tolist() == pytest.approx([0.5 * 1.125 + 0.5 * 1.3])


def test_feature_error_of_the_mean_feature_is_one() -> None:
    torch.manual_seed(0)
    target = torch.randn(1, 3, 200, 200) * torch.tensor([1.0, 2.0, 5.0])[:, None, None]
    statistics = SplitStatistics(target.var(dim=(0, 2, 3)), torch.tensor([0.1, 7.0, 2.0]))
    error = feature_error(target.mean(dim=(2, 3), keepdim=True).expand_as(target), target, statistics)
    assert error.item() == pytest.approx(1.0, rel=1e-3)
    assert feature_error(target, target, statistics).item() == 0.0


def test_deep_error_normalises_by_the_teachers_variance() -> None:
    teacher = {
        "a": torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1),
        "b": torch.tensor([0.0, 4.0]).reshape(2, 1, 1, 1),
    }
    student = {
        "a": torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1),
        "b": torch.tensor([0.0, 0.0]).reshape(2, 1, 1, 1),
    }
    # variances (n-1) 2 and 8; sample 0: 1/2 in a, 0 in b; sample 1: 0 in a, 16/8 in b; mean of the two
    error = deep_error(student, teacher, ("a", "b"))
    assert error.tolist() == pytest.approx([0.5 * 1 / 2.0001, 0.5 * 16 / 8.0001])
    assert deep_error(student, teacher, ("b",)).tolist() == pytest.approx([0.0, 16 / 8.0001])


def test_bernoulli_kl() -> None:
    half, three_quarters = torch.tensor(0.0), torch.tensor(LN3)
    assert bernoulli_kl(three_quarters, half).item() == pytest.approx(KL, rel=1e-5)
    # the other way round: 3/4 ln(3/2) + 1/4 ln(1/2)
    back = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert bernoulli_kl(half, three_quarters).item() == pytest.approx(back, rel=1e-5)
    logits = torch.linspace(-9, 9, 19)
    assert bernoulli_kl(logits, logits).abs().max() < 1e-6
    student, teacher = torch.meshgrid(logits, logits, indexing="ij")
    assert (bernoulli_kl(student, teacher) > -1e-6).all()


def head(objectness: list[float], classes: list[list[float]], box: list[list[float]]) -> dict[str, Tensor]:
    return {"obj_logit_s8": grid(objectness), "cls_logit_s8": grid(*classes), "box_s8": grid(*box)}


def test_detection_terms_weigh_cells_by_the_teachers_objectness() -> None:
    still = [[0.0, 0.0]] * 4
    teacher = head([0.0, -LN3], [[0.0, 0.0], [LN3, 0.0]], still)  # objectness 1/2 and 1/4: N_b = 0.75
    student = head([LN3, -LN3], [[LN3, LN3], [LN3, 0.0]], [[0.1, 2.0], *[[0.0, 0.0]] * 3])
    objectness, classes, boxes = detection_errors(student, teacher, ONE_LEVEL)
    assert objectness.tolist() == pytest.approx([KL / 1.75])  # only the first cell differs, unweighted
    assert classes.tolist() == pytest.approx([(0.5 + 0.25) * KL / 1.75])  # class 0 differs in both cells
    # smooth L1, beta 1/9: 0.1 -> 0.5 * 0.01 * 9 = 0.045; 2 -> 2 - 1/18
    assert boxes.tolist() == pytest.approx([(0.5 * 0.045 + 0.25 * (2 - 1 / 18)) / 1.75])


def test_detection_terms_are_zero_for_the_teacher_itself_and_add_up_over_levels() -> None:
    torch.manual_seed(1)
    spec = TeacherSpec("detect", "split", 2, False, (), (), levels=("s8", "s16"))
    teacher, student = (
        {
            f"{kind}_{level}": torch.randn(3, channels, 2, 2)
            for level in spec.levels
            for kind, channels in (("obj_logit", 1), ("cls_logit", 5), ("box", 4))
        }
        for _ in range(2)
    )
    for term in detection_errors(teacher, teacher, spec):
        assert term.abs().max() < 1e-6
    count = sum(torch.sigmoid(teacher[f"obj_logit_{level}"]).sum(dim=(1, 2, 3)) for level in spec.levels)
    whole = detection_errors(student, teacher, spec)
    for i, term in enumerate(whole):
        parts = torch.zeros(3)
        for level in spec.levels:
            one = TeacherSpec("detect", "split", 2, False, (), (), levels=(level,))
            own = torch.sigmoid(teacher[f"obj_logit_{level}"]).sum(dim=(1, 2, 3))
            parts += detection_errors(student, teacher, one)[i] * (own + 1.0)
        assert torch.allclose(term, parts / (count + 1.0), rtol=1e-4)


def test_gradient_of_the_objectness_term_pulls_to_the_teacher() -> None:
    teacher = head([0.0, 2.0], [[0.0, 0.0]], [[0.0, 0.0]] * 4)
    student = head([1.0, 1.0], [[0.0, 0.0]], [[0.0, 0.0]] * 4)
    logits = student["obj_logit_s8"].requires_grad_(True)
    detection_errors(student, teacher, ONE_LEVEL)[0].sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] > 0 > logits.grad[0, 0, 0, 1]


def test_softmax_kl_is_zero_for_equals_and_matches_a_hand_worked_value() -> None:
    teacher = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
    student = torch.tensor([[0.0, 0.0]])  # 1/2, 1/2
    wanted = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert softmax_kl(student, teacher).tolist() == pytest.approx([wanted], rel=1e-5)
    assert softmax_kl(teacher, teacher).abs().max() < 1e-7
    maps = teacher[:, :, None, None].repeat(1, 1, 2, 3)
    assert softmax_kl(student[:, :, None, None].expand_as(maps), maps).tolist() == pytest.approx(
        [wanted], 1e-5
    )


def test_terms_are_named_by_the_kind_of_output() -> None:
    spec = TeacherSpec("segment", "split", 2, False, ("logits",), ())
    logits = {"logits": torch.randn(2, 3, 4, 4)}
    terms = output_errors(logits, logits, spec)
    assert set(terms) == {"kl"}
    assert terms["kl"].shape == (2,)
    assert deep_error(logits, logits, ()).tolist() == [0.0, 0.0]

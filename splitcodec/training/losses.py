"""The loss terms, each a named function of plain tensors, tested against hand-worked values.

Numbers in brackets are the equations of Parallel Task-Prompts ICM (Shen & Liu). Eq. (4), the KL of two
softmax distributions, serves segmentation per pixel and classification per picture. The paper's detector has
anchors and boxes with IoU > 0.5; an anchor-free head has cells, so the teacher's objectness says how much a
cell counts, and N_b is the sum of it. Classes and objectness are independent sigmoids: KL and cross-entropy
are per-class Bernoulli.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from splitcodec.training.teacher import SplitStatistics, TeacherSpec

BOX_BETA = 1.0 / 9.0
DEEP_FLOOR = 1e-4  # of a channel's variance: a dead channel must not divide by zero


def feature_error(feature: Tensor, target: Tensor, statistics: SplitStatistics) -> Tensor:
    """(3), per sample (N,): normalised squared error of the split tensor.

    Half plain normalised MSE per channel, half weighted by what the tail is sensitive to.

    0 is perfect; a constant mean feature gives about 1.
    """
    error = (feature - target).square().mean(dim=(2, 3))
    plain = (error / statistics.variance).mean(dim=1)
    weight = statistics.sensitivity
    return 0.5 * plain + 0.5 * (error * weight).sum(dim=1) / (weight * statistics.variance).sum()


def deep_error(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], names: tuple[str, ...]
) -> Tensor:
    """Mean over inner tensors of the normalised MSE, per sample (N,); Entropic Student compares them too.

    0 without any name.
    """
    terms = [torch.zeros(len(value)).to(value) for value in list(student.values())[:1] if not names]
    for name in names:
        target = teacher[name]
        variance = target.var(dim=(0, 2, 3), keepdim=True) + DEEP_FLOOR
        terms.append(((student[name] - target).square() / variance).mean(dim=(1, 2, 3)))
    return torch.stack(terms).mean(dim=0)


def bernoulli_kl(student_logit: Tensor, teacher_logit: Tensor) -> Tensor:
    """(5)+(7) elementwise: KL(teacher || student) of independent Bernoulli variables, >= 0."""
    p = torch.sigmoid(teacher_logit)
    cross = F.binary_cross_entropy_with_logits(student_logit, p, reduction="none")
    own = F.binary_cross_entropy_with_logits(teacher_logit, p, reduction="none")
    return cross - own


def softmax_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """(4): KL(teacher || student) of class distributions, mean over places, per sample (N,).

    Logits (N, K) or (N, K, h, w).
    """
    own = F.log_softmax(teacher, dim=1)
    kl = (own.exp() * (own - F.log_softmax(student, dim=1))).sum(dim=1)
    return kl.flatten(1).mean(dim=1) if kl.dim() > 1 else kl


def output_errors(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], spec: TeacherSpec
) -> dict[str, Tensor]:
    """The terms on a task's outputs by name, each per sample (N,): (1) or (2) without rate and feature."""
    if spec.anchored:
        return anchor_errors(*(out[name] for name in spec.outputs for out in (student, teacher)))
    if spec.levels:
        objectness, classes, boxes = detection_errors(student, teacher, spec)
        return {"obj": objectness, "cls": classes, "box": boxes}
    (name,) = spec.outputs
    return {"kl": softmax_kl(student[name], teacher[name])}


def anchor_errors(
    student_logits: Tensor, teacher_logits: Tensor, student_deltas: Tensor, teacher_deltas: Tensor
) -> dict[str, Tensor]:
    """RetinaNet's terms without labels, per sample (N,), divided by N_b + 1.

    Logits (N, A, K), deltas (N, A, 4). What an anchor counts is the teacher's best class probability, N_b is
    the sum of it. kl: Bernoulli KL per class of what counts; focal: over all anchors, so that background is
    trained too, the focal loss with the teacher's probability as soft target (quality focal loss, Li et al.
    2020); box: smooth L1 of the encoded deltas.
    """
    wanted = torch.sigmoid(teacher_logits)
    confidence = wanted.amax(dim=2)
    scale = 1.0 / (confidence.sum(dim=1) + 1.0)
    divergence = bernoulli_kl(student_logits, teacher_logits)
    gap = (torch.sigmoid(student_logits) - wanted).square()
    cross = F.binary_cross_entropy_with_logits(student_logits, wanted, reduction="none")
    distance = F.smooth_l1_loss(student_deltas, teacher_deltas, reduction="none", beta=BOX_BETA)
    return {
        "kl": (confidence * divergence.sum(dim=2)).sum(dim=1) * scale,
        "focal": (gap * cross).sum(dim=(1, 2)) * scale,
        "box": (confidence * distance.sum(dim=2)).sum(dim=1) * scale,
    }


def detection_errors(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], spec: TeacherSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Objectness, class and box terms, each per sample (N,), divided by N_b + 1.

    N_b is the summed objectness of the teacher.
    """
    n = teacher[f"obj_logit_{spec.levels[0]}"].shape[0]
    objectness, classes, boxes, count = (torch.zeros(n) for _ in range(4))
    device = teacher[f"obj_logit_{spec.levels[0]}"].device
    objectness, classes, boxes, count = (t.to(device) for t in (objectness, classes, boxes, count))
    for level in spec.levels:
        obj, cls, box = (f"{kind}_{level}" for kind in ("obj_logit", "cls_logit", "box"))
        confidence = torch.sigmoid(teacher[obj])
        count = count + confidence.sum(dim=(1, 2, 3))
        objectness = objectness + bernoulli_kl(student[obj], teacher[obj]).sum(dim=(1, 2, 3))
        classes = classes + (confidence * bernoulli_kl(student[cls], teacher[cls])).sum(dim=(1, 2, 3))
        distance = F.smooth_l1_loss(student[box], teacher[box], reduction="none", beta=BOX_BETA)
        boxes = boxes + (confidence * distance).sum(dim=(1, 2, 3))
    scale = 1.0 / (count + 1.0)
    return objectness * scale, classes * scale, boxes * scale

"""Equations (3)-(8) of Parallel Task-Prompts ICM (Shen & Liu) as printed, each per sample (N,).

Left open by the paper, and chosen here: the class distribution o is the softmax of the class logits, for
RetinaNet too (with its sigmoids, (5) would fall without end as o_s grows); the boxes of (5), (7) and (8) are
the anchors whose IoU with a true box is above 0.5; coordinates are fractions of the picture's side. A picture
without such a box has no box terms. Known to be weak: nothing tells background from object, so false boxes
are never punished; that is what the practical losses are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from splitcodec.errors import TrainingError
from splitcodec.tasks.retinanet import MAX_LOG_SIDE, anchors_of
from splitcodec.training.labels import IGNORED, Truth
from splitcodec.training.losses import softmax_kl
from splitcodec.training.teacher import TeacherSpec

IOU_OF_A_MATCH = 0.5
MAP_AXES = 4  # (N, classes, h, w)


def paper_terms(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], truth: Truth, spec: TeacherSpec, side: int
) -> dict[str, Tensor]:
    """(1) or (2) without rate and feature, by name; side: of the crop in pixels.

    TrainingError for a teacher that is neither an anchored detector nor a segmenter: the paper has no others.
    """
    if spec.anchored:
        return detection_terms(student, teacher, truth, spec.outputs, side)
    (name,) = spec.outputs[:1]
    if student[name].dim() != MAP_AXES or spec.levels:
        raise TrainingError(
            f"the paper has losses for RetinaNet and for a segmenter, not for {spec.task}; use "
            "--losses practical"
        )
    ours, theirs = (
        F.interpolate(out[name], (side, side), mode="bilinear", align_corners=False)
        for out in (student, teacher)
    )
    return {"kl": softmax_kl(ours, theirs), "pce": pixel_entropy(ours, truth.mask)}


def mean_squared_error(feature: Tensor, target: Tensor) -> Tensor:
    """(3): squared error of h, divided by the number of its elements."""
    return (feature - target).square().flatten(1).mean(dim=1)


def pixel_entropy(student: Tensor, mask: Tensor) -> Tensor:
    """(6): logits (N, C, S, S), mask (N, S, S); pixels without a label have no y_c and still count in N."""
    entropy = F.cross_entropy(student, mask, ignore_index=IGNORED, reduction="none")
    return entropy.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class AnchorMatches:
    """Which anchors (N, A) overlap a true box, its class, and its corners (N, A, 4) in pixels."""

    chosen: Tensor
    classes: Tensor
    boxes: Tensor

    @property
    def count(self) -> Tensor:
        """N_b of each picture, at least 1 so that a picture without boxes divides by something."""
        return self.chosen.sum(dim=1).clamp_min(1)

    def mean(self, values: Tensor) -> Tensor:
        """values (N, A) -> their sum over the chosen anchors, divided by N_b."""
        return torch.where(self.chosen, values, 0.0).sum(dim=1) / self.count


def detection_terms(
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    truth: Truth,
    outputs: tuple[str, ...],
    side: int,
) -> dict[str, Tensor]:
    """The last three terms of (2)."""
    logits, deltas = outputs
    anchors = all_anchors(side).to(student[logits].device)
    found = match(anchors, truth)
    return {
        "kl": box_kl(student[logits], teacher[logits], found),
        "bce": box_entropy(student[logits], found),
        "box": box_distance(decode(student[deltas], anchors) / side, found.boxes / side, found),
    }


def all_anchors(side: int) -> Tensor:
    """(A, 4) of a square picture, all levels, in pixels."""
    return torch.cat([torch.from_numpy(level) for level in anchors_of(side, side)])


def match(anchors: Tensor, truth: Truth) -> AnchorMatches:
    """Each anchor's true box of the highest IoU, where that is above one half."""
    overlap = torch.where((truth.classes >= 0)[:, None, :], iou(anchors, truth.boxes), -1.0)
    best, index = overlap.max(dim=2)
    boxes = truth.boxes.gather(1, index[:, :, None].expand(-1, -1, 4))
    return AnchorMatches(best > IOU_OF_A_MATCH, truth.classes.gather(1, index).clamp_min(0), boxes)


def iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(A, 4), (N, M, 4) -> (N, A, M)."""
    low = torch.maximum(anchors[None, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(anchors[None, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp_min(0.0).prod(dim=3)
    areas = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)[None, :, None]
    union = areas + (boxes[:, :, 2:] - boxes[:, :, :2]).prod(dim=2)[:, None, :] - shared
    return shared / union


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """(N, A, 4) deltas of (A, 4) anchors -> corners (N, A, 4) in pixels; see splitcodec.tasks.retinanet."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + 0.5 * sides + deltas[..., :2] * sides
    half = 0.5 * torch.exp(deltas[..., 2:].clamp_max(float(MAX_LOG_SIDE))) * sides
    return torch.cat([centre - half, centre + half], dim=2)


def box_kl(student: Tensor, teacher: Tensor, found: AnchorMatches) -> Tensor:
    """(5): logits (N, A, C)."""
    own = F.log_softmax(teacher, dim=2)
    return found.mean((own.exp() * (own - F.log_softmax(student, dim=2))).sum(dim=2))


def box_entropy(student: Tensor, found: AnchorMatches) -> Tensor:
    """(7): logits (N, A, C)."""
    own = F.log_softmax(student, dim=2)
    return found.mean(-own.gather(2, found.classes[:, :, None]).squeeze(2))


def box_distance(student: Tensor, truth: Tensor, found: AnchorMatches) -> Tensor:
    """(8) divided by N_b, as in (2): corners (N, A, 4)."""
    return found.mean((student - truth).square().sum(dim=2))

"""The postprocesses of torchvision's networks give torchvision's own numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, _default_anchorgen

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize
from splitcodec.tasks import ResultLimits, postprocess_for
from splitcodec.tasks.deeplab import class_map
from splitcodec.tasks.retinanet import anchors_of, decode_boxes, level_sizes, retinanet

LABELS = ("__background__", "cat", "dog")
CANVAS = FrameSize(source_height=200, source_width=300, network_height=160, network_width=224)


class _Pyramid(torch.nn.Module):
    out_channels = 8


def torchvision_anchors(height: int, width: int) -> list[torch.Tensor]:
    """Per level, by the library's own generator."""
    sizes = level_sizes(height, width)
    images = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    (whole,) = _default_anchorgen()(images, [torch.zeros(1, 8, *size) for size in sizes])
    return list(whole.split([9 * rows * columns for rows, columns in sizes]))


@pytest.mark.parametrize("size", [(160, 224), (800, 1344), (512, 512), (32, 96)])
def test_anchors_are_torchvisions(size: tuple[int, int]) -> None:
    for found, want in zip(anchors_of(*size), torchvision_anchors(*size), strict=True):
        assert np.array_equal(found, want.numpy())


def head_outputs(seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    count = sum(len(level) for level in anchors_of(160, 224))
    logits = rng.normal(-4.0, 2.0, (1, count, len(LABELS))).astype(np.float32)
    return {"cls_logits": logits, "bbox_regression": rng.normal(0, 0.4, (1, count, 4)).astype(np.float32)}


def test_boxes_are_torchvisions() -> None:
    """Scores, classes and places after its top-k per level, clipping and suppression."""
    outputs = head_outputs(1)
    outputs["bbox_regression"][0, ::7, 2:] = 9.0  # sides beyond what the decoder allows
    library = RetinaNet(_Pyramid(), len(LABELS), topk_candidates=1000, detections_per_img=100)
    levels = torchvision_anchors(160, 224)
    counts = [len(level) for level in levels]
    split = {name: list(torch.from_numpy(v).split(counts, dim=1)) for name, v in outputs.items()}
    shown = CANVAS.canvas_window
    (want,) = library.postprocess_detections(split, [levels], [(shown.height, shown.width)])
    found = retinanet(outputs, CANVAS, LABELS, ResultLimits(0.05, 0.5, 100)).detections
    assert len(found) == len(want["scores"]) == 100
    assert [d.class_id for d in found] == want["labels"].tolist()
    assert np.allclose([d.score for d in found], want["scores"].numpy(), atol=1e-6)
    down, across = CANVAS.scale
    places = [[d.box.x1 * across, d.box.y1 * down, d.box.x2 * across, d.box.y2 * down] for d in found]
    assert np.allclose(places, want["boxes"].numpy(), atol=1e-2)
    assert {d.label for d in found} <= set(LABELS)


def test_no_delta_gives_the_anchor_and_a_delta_moves_by_its_sides() -> None:
    anchors = np.array([[10, 20, 30, 60]], np.float32)
    assert decode_boxes(np.zeros((1, 4), np.float32), anchors).tolist() == [[10, 20, 30, 60]]
    deltas = np.array([[0.5, -0.25, np.log(2.0), 0.0]], np.float32)
    # centre (20, 40) + (0.5 * 20, -0.25 * 40) = (30, 30); sides 2 * 20 and 40
    assert decode_boxes(deltas, anchors) == pytest.approx(np.array([[10.0, 10.0, 50.0, 50.0]]))


def test_outputs_that_do_not_fit_the_canvas_are_refused() -> None:
    outputs = head_outputs(2)
    other = FrameSize(200, 300, 192, 224)
    with pytest.raises(GraphFailed, match=r"class rows and deltas of .* a canvas of 192x224 has"):
        retinanet(outputs, other, LABELS, ResultLimits())
    with pytest.raises(GraphFailed, match="scores 3 classes, the manifest labels 2"):
        retinanet(outputs, CANVAS, LABELS[:2], ResultLimits())
    with pytest.raises(GraphFailed, match="needs bbox_regression"):
        retinanet({"cls_logits": outputs["cls_logits"]}, CANVAS, LABELS, ResultLimits())
    outputs["bbox_regression"][:] = np.nan
    assert retinanet(outputs, CANVAS, LABELS, ResultLimits()).detections == ()


def test_centred_class_map_is_torchs_upsampling() -> None:
    logits = np.random.default_rng(3).normal(size=(5, 8, 12)).astype(np.float32)
    size = FrameSize(64, 96, 64, 96, fit="stretch")
    want = F.interpolate(torch.from_numpy(logits)[None], (64, 96), mode="bilinear", align_corners=False)
    best = want[0].argmax(0).numpy()
    assert (class_map(logits, size, 64, 96, centred=True) == best).mean() > 0.9999
    assert (class_map(logits, size, 64, 96) != best).mean() > 0.01, "another grid"
    answer = postprocess_for("deeplab_centred")(
        {"logits": logits[None]}, size, tuple("abcde"), ResultLimits()
    )
    assert (answer.class_map() == best).mean() > 0.9999

"""mIoU against hand-worked cases and counting by hand; the bootstrap against scoring the drawn photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from evaluation_rig import DictFiles, coco_files, jpeg, mask_files, png
from numpy.typing import NDArray

from splitcodec.errors import DatasetError, GraphFailed
from splitcodec.evaluation.average_precision import draw_resamples
from splitcodec.evaluation.dataset import Dataset
from splitcodec.evaluation.segmentation import IGNORED, SegmentationScorer, mean_iou
from splitcodec.placement import FrameSize

LABELS = ("background", "cat", "dog")
SIDE = 32
SIZE = FrameSize(SIDE, SIDE, SIDE, SIDE, "stretch")


def dataset(masks: dict[int, NDArray[np.uint8]], photos: int | None = None) -> Dataset:
    """Square photos, those in `masks` with one."""
    files = coco_files([(SIDE, SIDE)] * (photos or len(masks)), ["cat"])
    return Dataset(DictFiles({**files, **mask_files(masks)}), "squares")


def columns(*counts: int) -> NDArray[np.uint8]:
    """A map whose first counts[0] columns are class 0, the next counts[1] class 1, and so on."""
    assert sum(counts) == SIDE
    return np.repeat(np.arange(len(counts), dtype=np.uint8), counts)[None].repeat(SIDE, axis=0)


def answer(classes: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Logits at full resolution that say just that."""
    return {"logits": np.moveaxis(np.eye(len(LABELS), dtype=np.float32)[classes], 2, 0)[None]}


def read(scorer: SegmentationScorer, maps: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.int64]]:
    pairs = zip(scorer.photos, maps, strict=True)
    return [scorer.read_outputs(photo, SIZE, answer(found)) for photo, found in pairs]


def once(photos: int) -> NDArray[np.int64]:
    return np.ones((1, photos), dtype=np.int64)


def counted_miou(truths: Sequence[NDArray[np.uint8]], maps: Sequence[NDArray[np.uint8]]) -> float:
    """The definition, one class at a time over all pixels of all photos."""
    truth, found = np.concatenate([t.ravel() for t in truths]), np.concatenate([m.ravel() for m in maps])
    truth, found = truth[truth != IGNORED], found[truth != IGNORED]
    ratios = [
        np.sum((truth == k) & (found == k)) / np.sum((truth == k) | (found == k))
        for k in range(len(LABELS))
        if (truth == k).any()
    ]
    return float(np.mean(ratios)) if ratios else 0.0


def test_a_perfect_answer_scores_one() -> None:
    masks = {1: columns(16, 8, 8), 2: columns(32)}
    scorer = SegmentationScorer(dataset(masks), LABELS)
    seen = read(scorer, list(masks.values()))
    score = scorer.score(seen, seen, once(2))
    assert (score.accuracy, score.resampled.tolist()) == (1.0, [1.0])
    assert score.detail == {"pixel_accuracy": 1.0}


def test_pixels_of_all_photos_are_counted_together() -> None:
    masks = {1: columns(16, 16), 2: columns(28, 4)}
    scorer = SegmentationScorer(dataset(masks), LABELS)
    seen = read(scorer, [columns(16, 16), columns(32)])
    assert seen[1][:2, :2].tolist() == [[28 * SIDE, 0], [4 * SIDE, 0]]
    score = scorer.score(seen, seen, once(2))
    # class 0: 44 of 48 columns, class 1: 16 of 20; the mean over photos of their own mIoU would be another
    assert score.accuracy == pytest.approx((44 / 48 + 16 / 20) / 2)
    assert score.detail["pixel_accuracy"] == pytest.approx(60 / 64)


def test_a_class_in_no_mask_is_left_out_but_costs_the_one_it_stands_for() -> None:
    scorer = SegmentationScorer(dataset({1: columns(16, 16)}), LABELS)
    seen = read(scorer, [columns(16, 8, 8)])
    assert scorer.score(seen, seen, once(1)).accuracy == pytest.approx((1.0 + 0.5) / 2)


def test_ignored_pixels_count_nowhere() -> None:
    mask = columns(16, 16)
    mask[:, 12:20] = IGNORED
    scorer = SegmentationScorer(dataset({1: mask}), LABELS)
    (confusion,) = read(scorer, [columns(12, 4, 16)])
    assert confusion.tolist() == [[12 * SIDE, 0, 0], [0, 0, 12 * SIDE], [0, 0, 0]]
    assert scorer.score([confusion], [confusion], once(1)).accuracy == pytest.approx(0.5)


def test_a_mask_that_ignores_everything_scores_zero() -> None:
    scorer = SegmentationScorer(dataset({1: np.full((SIDE, SIDE), IGNORED, np.uint8)}), LABELS)
    seen = read(scorer, [columns(32)])
    score = scorer.score(seen, seen, once(1))
    assert (score.accuracy, score.detail["pixel_accuracy"]) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_equals_scoring_the_drawn_photos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photos = 6
    masks = {k + 1: rng.integers(0, 3, (SIDE, SIDE)).astype(np.uint8) for k in range(photos)}
    for mask in masks.values():
        mask[rng.random(mask.shape) < 0.1] = IGNORED
    masks[1][:] = np.where(masks[1] == 2, 0, masks[1])
    truths = list(masks.values())
    wrong = [rng.random((SIDE, SIDE)) < 0.4 for _ in truths]
    maps = [
        np.where(spoilt | (truth == IGNORED), rng.integers(0, 3, (SIDE, SIDE)), truth).astype(np.uint8)
        for truth, spoilt in zip(truths, wrong, strict=True)
    ]
    scorer = SegmentationScorer(dataset(masks), LABELS)
    seen = read(scorer, maps)
    weights = draw_resamples(photos, 8, seed)
    score = scorer.score(seen, seen, weights)
    assert score.accuracy == pytest.approx(counted_miou(truths, maps), abs=1e-12)
    for counts, value in zip(weights, score.resampled, strict=True):
        drawn = np.repeat(np.arange(photos), counts)
        wanted = counted_miou([truths[k] for k in drawn], [maps[k] for k in drawn])
        assert value == pytest.approx(wanted, abs=1e-12)


def test_no_mask_at_all_gives_zero_not_nan() -> None:
    assert mean_iou(np.zeros((2, 3, 3), np.int64)).tolist() == [0.0, 0.0]


def test_photos_without_a_mask_are_left_out() -> None:
    scorer = SegmentationScorer(dataset({2: columns(32), 3: columns(32)}, photos=4), LABELS)
    assert [photo.photo_id for photo in scorer.photos] == [2, 3]
    assert scorer.truths == 2
    assert scorer.read_photo(scorer.photos[0]) == jpeg(SIDE, SIDE)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (b"no picture", "no readable PNG"),
        (jpeg(SIDE, SIDE), "no readable PNG"),
        (png(np.zeros((SIDE, SIDE - 1), np.uint8)), "one byte for each of 32x32 pixels"),
        (png(np.zeros((SIDE, SIDE, 3), np.uint8)), "one byte for each"),
        (png(np.full((SIDE, SIDE), 3, np.uint8)), "has class 3; the task has 3 classes"),
        (png(np.full((SIDE, SIDE), 254, np.uint8)), "has class 254"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: bytes, reason: str) -> None:
    files = {**coco_files([(SIDE, SIDE)], ["cat"]), "masks/1.png": mask}
    with pytest.raises(DatasetError, match=reason):
        SegmentationScorer(Dataset(DictFiles(files), "d"), LABELS)


def test_data_without_masks_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"squares holds no masks/\*\.png"):
        SegmentationScorer(dataset({}, photos=2), LABELS)


def test_a_network_of_other_classes_is_refused() -> None:
    scorer = SegmentationScorer(dataset({1: columns(32)}), LABELS[:2])
    with pytest.raises(GraphFailed, match="scores 3 classes, the manifest labels 2"):
        read(scorer, [columns(32)])

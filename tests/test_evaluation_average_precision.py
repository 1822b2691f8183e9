"""mAP against hand-worked cases and plain pycocotools; the bootstrap against evaluating the drawn photos."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from splitcodec.evaluation.average_precision import (
    FoundBoxes,
    Matcher,
    draw_resamples,
    mean_precision,
    precision_of,
)
from splitcodec.evaluation.dataset import Category, Dataset, GroundTruth, Photo

CAT, DOG = 17, 18
Truth = tuple[int, int, tuple[float, float, float, float], bool]  # photo, category, x y w h, crowd
Found = tuple[int, int, tuple[float, float, float, float], float]  # photo, category, corners, score


class InMemory(Dataset):
    """A data set without files."""

    def __init__(self, photo_ids: Sequence[int], truths: Sequence[Truth]) -> None:
        self.name = "in memory"
        self.photos = tuple(Photo(photo_id, f"{photo_id}.jpg", 100, 100) for photo_id in photo_ids)
        self.truths = tuple(
            GroundTruth(photo, category, box, box[2] * box[3], crowd)
            for photo, category, box, crowd in truths
        )
        self.categories = (Category(CAT, "cat"), Category(DOG, "dog"))


def found_boxes(rows: Sequence[Found]) -> list[FoundBoxes]:
    """One FoundBoxes per photo that has any."""
    return [
        FoundBoxes(
            photo,
            np.array([row[2] for row in rows if row[0] == photo], dtype=np.float32),
            np.array([row[3] for row in rows if row[0] == photo], dtype=np.float32),
            np.array([row[1] for row in rows if row[0] == photo], dtype=np.int64),
        )
        for photo in dict.fromkeys(row[0] for row in rows)
    ]


def measured(photo_ids: Sequence[int], truths: Sequence[Truth], rows: Sequence[Found]) -> tuple[float, float]:
    """(map, map50) of a small case."""
    precision = precision_of(Matcher(InMemory(photo_ids, truths)).match(found_boxes(rows)))
    return precision.map, precision.map50


def plain_coco(
    photo_ids: Sequence[int], truths: Sequence[Truth], rows: Sequence[Found]
) -> tuple[float, float]:
    """(map, map50) by pycocotools alone, with all its default settings."""
    truth, found = COCO(), COCO()
    truth.dataset = {
        "images": [{"id": photo} for photo in photo_ids],
        "categories": [{"id": CAT}, {"id": DOG}],
        "annotations": [
            {
                "id": number,
                "image_id": photo,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(crowd),
            }
            for number, (photo, category, box, crowd) in enumerate(truths, start=1)
        ],
    }
    found.dataset = {
        **truth.dataset,
        "annotations": [
            {
                "id": number,
                "image_id": photo,
                "category_id": category,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "score": score,
                "iscrowd": 0,
            }
            for number, (photo, category, (x1, y1, x2, y2), score) in enumerate(rows, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def random_case(seed: int, photos: int = 9) -> tuple[list[int], list[Truth], list[Found]]:
    """Photos with 0 to 5 objects, some crowds, and detections near and far; no two scores are equal."""
    rng = np.random.default_rng(seed)
    photo_ids = [int(photo) for photo in rng.permutation(50)[:photos] + 1]
    truths: list[Truth] = []
    rows: list[Found] = []
    for photo in photo_ids:
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = (float(value) for value in np.float32(rng.uniform((0, 0, 10, 10), (60, 60, 40, 40))))
            category = int(rng.choice([CAT, DOG]))
            truths.append((photo, category, (x, y, w, h), bool(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 3)):
                near = np.float32(np.add([x, y, x + w, y + h], rng.normal(0, 2.0, 4)))
                guess = category if rng.random() < 0.8 else int(rng.choice([CAT, DOG]))
                rows.append((photo, guess, tuple(near.tolist()), float(np.float32(rng.random()))))
        far = np.float32(rng.uniform((0, 0, 50, 50), (40, 40, 90, 90)))
        rows.append(
            (photo, int(rng.choice([CAT, DOG])), tuple(far.tolist()), float(np.float32(rng.random())))
        )
    return photo_ids, truths, rows


def test_a_perfect_detection_scores_one() -> None:
    assert measured([1], [(1, CAT, (10, 10, 20, 20), False)], [(1, CAT, (10, 10, 30, 30), 0.3)]) == (1.0, 1.0)


def test_an_overlap_of_0_62_counts_at_three_of_ten_thresholds() -> None:
    figures = measured([1], [(1, CAT, (0, 0, 10, 100), False)], [(1, CAT, (0, 0, 10, 62), 0.9)])
    assert figures == pytest.approx((0.3, 1.0))


def test_half_the_objects_after_a_false_alarm() -> None:
    truths: list[Truth] = [(1, CAT, (0, 0, 10, 10), False), (1, CAT, (50, 50, 10, 10), False)]
    rows: list[Found] = [(1, CAT, (80, 80, 90, 90), 0.9), (1, CAT, (0, 0, 10, 10), 0.8)]
    # precision 1/2 at every recall threshold up to 0.5, that is 51 of 101, nothing beyond
    assert measured([1], truths, rows) == pytest.approx((0.5 * 51 / 101, 0.5 * 51 / 101))


def test_a_false_alarm_on_a_photo_without_boxes_costs() -> None:
    truths: list[Truth] = [(1, CAT, (0, 0, 10, 10), False)]
    rows: list[Found] = [(1, CAT, (0, 0, 10, 10), 0.8)]
    assert measured([1, 2], truths, rows)[0] == pytest.approx(1.0)
    assert measured([1, 2], truths, [*rows, (2, CAT, (0, 0, 10, 10), 0.9)])[0] == pytest.approx(0.5)


def test_a_class_nobody_annotated_is_left_out_of_the_mean() -> None:
    truths: list[Truth] = [(1, CAT, (0, 0, 10, 10), False)]
    rows: list[Found] = [(1, CAT, (0, 0, 10, 10), 0.8), (1, DOG, (0, 0, 10, 10), 0.9)]
    assert measured([1], truths, rows)[0] == pytest.approx(1.0)


def test_a_detection_inside_a_crowd_is_neither_right_nor_wrong() -> None:
    truths: list[Truth] = [(1, CAT, (0, 0, 10, 10), False), (1, CAT, (40, 40, 50, 50), True)]
    rows: list[Found] = [(1, CAT, (50, 50, 60, 60), 0.9), (1, CAT, (0, 0, 10, 10), 0.8)]
    assert measured([1], truths, rows)[0] == pytest.approx(1.0)


def test_no_detections_score_zero() -> None:
    assert measured([1, 2], [(1, CAT, (0, 0, 10, 10), False)], []) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_plain_pycocotools(seed: int) -> None:
    case = random_case(seed)
    assert measured(*case) == pytest.approx(plain_coco(*case), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_resample_equals_evaluating_the_drawn_photos(seed: int) -> None:
    photo_ids, truths, rows = random_case(100 + seed)
    matches = Matcher(InMemory(photo_ids, truths)).match(found_boxes(rows))
    weights = draw_resamples(len(photo_ids), 4, seed)
    resampled = mean_precision(matches, weights)
    for counts, value in zip(weights, resampled, strict=True):
        copies: dict[int, list[int]] = {}
        for index, photo in enumerate(sorted(photo_ids)):
            copies[photo] = [1000 * index + copy + 1 for copy in range(counts[index])]
        drawn = plain_coco(
            [new for copy in copies.values() for new in copy],
            [(new, *truth[1:]) for truth in truths for new in copies[truth[0]]],
            [(new, *row[1:]) for row in rows for new in copies[row[0]]],
        )
        assert value == pytest.approx(max(drawn[0], 0.0), abs=1e-12)


def test_chunks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    photo_ids, truths, rows = random_case(7)
    matches = Matcher(InMemory(photo_ids, truths)).match(found_boxes(rows))
    weights = draw_resamples(len(photo_ids), 50, 1)
    whole = mean_precision(matches, weights)
    monkeypatch.setattr("splitcodec.evaluation.average_precision.CHUNK_CELLS", 3 * len(matches.photo))
    np.testing.assert_array_equal(mean_precision(matches, weights), whole)


def test_resamples_draw_as_many_photos_and_repeat_with_their_seed() -> None:
    weights = draw_resamples(30, 20, 5)
    assert (weights.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(weights, draw_resamples(30, 20, 5))
    assert (weights != draw_resamples(30, 20, 6)).any()

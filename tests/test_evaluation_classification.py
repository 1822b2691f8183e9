"""top-1, top-5 and agreement against hand-worked cases; the bootstrap against scoring the drawn photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from evaluation_rig import DictFiles, jpeg
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.evaluation.average_precision import draw_resamples
from splitcodec.evaluation.classification import TOP, ClassificationScorer
from splitcodec.evaluation.labelled_photos import LabelledPhotos
from splitcodec.placement import FrameSize

LABELS = tuple("abcdefgh")
SIZE = FrameSize(32, 32, 32, 32, "crop")


def scorer_of(truth: str | None, photos: int = 4) -> ClassificationScorer:
    """Photos 00.jpg and on whose classes are the letters of `truth`, or unknown."""
    files = {f"{k:02}.jpg": jpeg(32, 32) for k in range(photos)}
    if truth is not None:
        lines = ["file,class", *(f"{k:02}.jpg,{letter}" for k, letter in enumerate(truth))]
        files["classes.csv"] = "\n".join(lines).encode()
    return ClassificationScorer(LabelledPhotos(DictFiles(files), "letters", LABELS, None), LABELS)


def answer(best_first: str) -> dict[str, NDArray[np.float32]]:
    """Logits in that order of classes, the others below."""
    logits = np.full((1, len(LABELS)), -9.0, np.float32)
    for rank, letter in enumerate(best_first):
        logits[0, LABELS.index(letter)] = -rank
    return {"logits": logits}


def read(scorer: ClassificationScorer, answers: Sequence[str]) -> list[NDArray[np.int64]]:
    pairs = zip(scorer.photos, answers, strict=True)
    return [scorer.read_outputs(photo, SIZE, answer(one)) for photo, one in pairs]


def test_top_1_top_5_and_agreement() -> None:
    scorer = scorer_of("aabc")
    teacher = read(scorer, ["abcde", "bacde", "bcdef", "defgh"])
    ours = read(scorer, ["abcde", "abcde", "cdefb", "defgh"])
    whole = np.ones((1, 4), dtype=np.int64)
    score = scorer.score(teacher, teacher, whole)
    assert (score.accuracy, score.detail) == (0.5, {"top5": 0.75, "agreement": 1.0})
    score = scorer.score(ours, teacher, whole)
    assert (score.accuracy, score.detail) == (0.5, {"top5": 0.75, "agreement": 0.5})
    assert (scorer.metric.key, scorer.truths) == ("top1", 4)


def test_the_sixth_class_is_not_among_the_top_five() -> None:
    scorer = scorer_of("f", photos=1)
    (ranking,) = seen = read(scorer, ["abcdef"])
    assert (len(ranking), TOP) == (5, 5)
    assert scorer.score(seen, seen, np.ones((1, 1), np.int64)).detail["top5"] == 0.0


def test_without_labels_the_teachers_answers_are_the_truth() -> None:
    scorer = scorer_of(None)
    teacher = read(scorer, ["a", "b", "c", "d"])
    ours = read(scorer, ["a", "b", "a", "d"])
    score = scorer.score(ours, teacher, np.array([[1, 1, 1, 1], [0, 0, 4, 0]]))
    assert (score.accuracy, score.resampled.tolist(), score.detail) == (0.75, [0.75, 0.0], {})
    assert scorer.score(teacher, teacher, np.ones((1, 4), np.int64)).accuracy == 1.0
    assert (scorer.metric.key, scorer.metric.name, scorer.truths) == ("agreement", "agreement", 0)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_resample_equals_scoring_the_drawn_photos(labelled: bool) -> None:
    rng = np.random.default_rng(2)
    photos = 12
    truth, best, other = ("".join(rng.choice(LABELS[:3], photos)) for _ in range(3))
    scorer = scorer_of(truth if labelled else None, photos)
    ours, teacher = read(scorer, best), read(scorer, other)
    weights = draw_resamples(photos, 20, 3)
    wanted = truth if labelled else other
    for counts, value in zip(weights, scorer.score(ours, teacher, weights).resampled, strict=True):
        drawn = np.repeat(np.arange(photos), counts)
        assert value == pytest.approx(np.mean([best[k] == wanted[k] for k in drawn]), abs=1e-12)


def test_a_network_of_other_classes_is_refused() -> None:
    scorer = scorer_of("a", photos=1)
    with pytest.raises(GraphFailed, match="scores 7 classes, the manifest labels 8"):
        scorer.read_outputs(scorer.photos[0], SIZE, {"logits": np.zeros((1, 7), np.float32)})

"""Classification post-processing: probabilities, how many classes are named, and outputs that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.tasks import FrameSize, ResultLimits, postprocess_for
from splitcodec.tasks.classify import classify

LABELS = ("cat", "dog", "owl", "cow")
SIZE = FrameSize(60, 80, 64, 64, "crop", 0.875)


def one_frame(*logits: float) -> dict[str, NDArray[np.float32]]:
    return {"logits": np.array([logits], np.float32)}


def test_scores_are_the_softmax_over_all_classes_best_first() -> None:
    logits = one_frame(0.0, np.log(3.0), np.log(6.0), -60.0)
    answer = classify(logits, SIZE, LABELS, ResultLimits(top_classes=3))
    assert [one.label for one in answer.classes] == ["owl", "dog", "cat"]
    assert [one.class_id for one in answer.classes] == [2, 1, 0]
    assert [one.score for one in answer.classes] == pytest.approx([0.6, 0.3, 0.1], abs=1e-6)


def test_only_the_best_classes_are_named_and_of_equals_the_first() -> None:
    answer = classify(one_frame(1.0, 5.0, 5.0, 2.0), SIZE, LABELS, ResultLimits(top_classes=2))
    assert [one.label for one in answer.classes] == ["dog", "owl"]
    assert len(classify(one_frame(1.0, 2.0, 3.0, 4.0), SIZE, LABELS, ResultLimits()).classes) == 4


def test_large_logits_neither_overflow_nor_vanish() -> None:
    best = classify(one_frame(3e38, -3e38, 0.0, 0.0), SIZE, LABELS, ResultLimits()).classes[0]
    assert (best.label, best.score) == ("cat", 1.0)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (
            {"scores": np.zeros((1, 4), np.float32)},
            r"gave \['scores'\]; this task needs logits \[1, classes\]",
        ),
        ({"logits": np.zeros((2, 4), np.float32)}, "one frame"),
        ({"logits": np.zeros((1, 4, 1), np.float32)}, "one frame"),
        ({"logits": np.zeros((1, 0), np.float32)}, "one frame"),
        (one_frame(0.0, np.inf, 0.0, 0.0), "not finite"),
        (one_frame(0.0, 1.0, 2.0), "scores 3 classes, the manifest labels 4"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs: dict[str, NDArray[np.float32]], reason: str) -> None:
    with pytest.raises(GraphFailed, match=reason):
        classify(outputs, SIZE, LABELS, ResultLimits())


def test_a_manifest_reaches_it_by_name() -> None:
    assert postprocess_for("classify") is classify

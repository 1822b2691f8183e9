"""Answers as messages and back, and messages that are no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitcodec.errors import CloudRefused
from splitcodec.tasks import (
    Box,
    ClassScore,
    ClassScores,
    Detection,
    Detections,
    SegmentationMask,
    TaskAnswer,
    UnknownAnswer,
    answer_of,
)
from splitcodec.tasks.deeplab import as_runs
from splitcodec.tasks.mask import MAX_MAP_RUNS, MAX_MAP_SIDE
from splitcodec.wire.v1.results_pb2 import Segmentation, TaskResult

LABELS = ("background", "cat", "dog")
SINGLE = st.floats(0, 1, width=32)


def there_and_back(answer: TaskAnswer) -> TaskAnswer:
    """Through the bytes that travel."""
    message = TaskResult()
    answer.put(message)
    return answer_of(TaskResult.FromString(message.SerializeToString()))


DETECTIONS = st.lists(
    st.builds(
        Detection,
        label=st.sampled_from(LABELS),
        class_id=st.integers(0, 2),
        score=SINGLE,
        box=st.builds(Box, SINGLE, SINGLE, SINGLE, SINGLE),
    ),
    max_size=4,
).map(lambda found: Detections(tuple(found)))
CLASSES = st.lists(
    st.builds(ClassScore, label=st.sampled_from(LABELS), class_id=st.integers(0, 99_999), score=SINGLE),
    max_size=4,
).map(lambda found: ClassScores(tuple(found)))


@given(answer=st.one_of(DETECTIONS, CLASSES))
def test_boxes_and_classes_come_back_as_they_were(answer: TaskAnswer) -> None:
    assert there_and_back(answer) == answer


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), runs=st.integers(1, 81), seed=st.integers(0, 2**32 - 1)
)
def test_a_class_map_comes_back_as_it_was(height: int, width: int, runs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = np.sort(rng.integers(0, runs, height * width)) % len(LABELS)
    classes = flat.reshape(height, width).astype(np.uint16)
    answer = as_runs(classes, LABELS)
    assert answer is not None
    back = there_and_back(answer)
    assert isinstance(back, SegmentationMask)
    assert (back.height, back.width) == (height, width)
    np.testing.assert_array_equal(back.class_map(), classes)
    assert [one.label for one in back.classes] == [one.label for one in answer.classes]
    assert [one.share for one in back.classes] == pytest.approx([one.share for one in answer.classes])


@pytest.mark.parametrize("answer", [Detections(()), ClassScores(())])
def test_nothing_found_is_an_answer_too(answer: TaskAnswer) -> None:
    assert there_and_back(answer) == answer


def sound() -> Segmentation:
    return Segmentation(height=2, width=3, run_classes=[0, 2], run_lengths=[5, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0, "run_classes": [], "run_lengths": []},
        {"width": 0, "run_classes": [], "run_lengths": []},
        {"height": MAX_MAP_SIDE + 1, "width": 1, "run_classes": [0], "run_lengths": [MAX_MAP_SIDE + 1]},
        {"height": 1, "width": MAX_MAP_SIDE + 1, "run_classes": [0], "run_lengths": [MAX_MAP_SIDE + 1]},
        {"height": 2**31, "width": 2**31, "run_classes": [0] * 2, "run_lengths": [2**31] * 2},
        {"run_lengths": [5, 2]},
        {"run_lengths": [2**32 - 1, 7]},
        {"run_lengths": [6]},
        {"run_classes": [], "run_lengths": []},
        {"run_classes": [0, 1 << 16]},
        {
            "height": 1024,
            "width": 1024,
            "run_classes": [0] * (MAX_MAP_RUNS + 1),
            "run_lengths": [15] * MAX_MAP_RUNS + [1024 * 1024 - 15 * MAX_MAP_RUNS],
        },
    ],
)
def test_a_class_map_that_is_none_is_refused(change: dict[str, object]) -> None:
    assert answer_of(TaskResult(segmentation=sound())).class_map().tolist() == [[0, 0, 0], [0, 0, 2]]
    broken = sound()
    for name, value in change.items():
        broken.ClearField(name)
        if isinstance(value, list):
            getattr(broken, name).extend(value)
        else:
            setattr(broken, name, value)
    with pytest.raises(CloudRefused, match="a class for each pixel"):
        answer_of(TaskResult(segmentation=broken))


def test_a_result_without_an_output_is_refused() -> None:
    with pytest.raises(CloudRefused, match="without an output; deploy the same version"):
        answer_of(TaskResult(task="ocr"))


@given(kind=st.text(max_size=9), data=st.binary(max_size=20))
def test_an_answer_of_an_unknown_kind_comes_back_as_it_was(kind: str, data: bytes) -> None:
    assert there_and_back(UnknownAnswer(kind, data)) == UnknownAnswer(kind, data)


def test_an_output_in_a_field_that_this_version_does_not_know_is_kept() -> None:
    message = TaskResult(task="ocr").SerializeToString() + b"\xca\x01\x05words"  # field 25, 5 bytes
    assert answer_of(TaskResult.FromString(message)) == UnknownAnswer("field 25", b"words")

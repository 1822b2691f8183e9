"""Measuring from picture files to answers: boxes in source pixels, and data or a detector that do not fit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluation_rig import LABELS, coco_files, write_tar
from numpy.typing import NDArray

from splitcodec.errors import DatasetError, GraphFailed
from splitcodec.evaluation.dataset import Dataset, open_dataset
from splitcodec.evaluation.detection import DetectionScorer, category_ids
from splitcodec.evaluation.measure import measure
from splitcodec.evaluation.systems import Outputs, SystemOutput
from splitcodec.frame import Canvas
from splitcodec.packs import InputConvention

CONVENTION = InputConvention(height=64, width=64, fit="letterbox", fill=114)


@pytest.fixture
def two_photos(tmp_path: Path) -> Iterator[Dataset]:
    """A 128 x 64 and a 64 x 64 photo; category 5 is a cat, 6 a dog."""
    path = write_tar(tmp_path / "two.tar", coco_files([(64, 128), (64, 64)], ["cat", "dog"]))
    with open_dataset(path) as dataset:
        yield dataset


class OneCell:
    """Sees one box at the same place of every canvas, as every label, and charges the canvas's height."""

    codec, rate = "one cell", 2.0

    def run(self, canvas: Canvas) -> SystemOutput:
        outputs: dict[str, NDArray[np.float32]] = {
            f"head_s{stride}": np.zeros((1, 5 + len(LABELS), 64 // stride, 64 // stride), np.float32)
            for stride in (8, 16, 32)
        }
        outputs["head_s16"][0, :, 0, 1] = (0.0, 0.5, 0.0, 0.0, 1.0, 0.9, 0.8, 0.7)
        return SystemOutput(outputs, canvas.pixels.shape[0])


class Teacherlike(OneCell):
    """The same without bytes."""

    codec, rate = "teacher", None  # type: ignore[assignment]

    def run(self, canvas: Canvas) -> SystemOutput:
        outputs: Outputs = super().run(canvas).outputs
        return SystemOutput(outputs, None)


def test_boxes_come_back_in_source_pixels_under_the_data_sets_categories(two_photos: Dataset) -> None:
    steps: list[int] = []
    scorer = DetectionScorer(two_photos, LABELS)
    teacher, coded = measure(scorer, [Teacherlike(), OneCell()], CONVENTION, lambda: steps.append(1))
    assert len(steps) == 4
    assert (teacher.num_bytes, coded.num_bytes) == ([], [64, 64])
    wide, square = coded.seen
    # Person and teapot are not annotated here: only the cat counts.
    # Centre (16, 8), sides 16; scale 0.5 and 1.
    assert wide.category_ids.tolist() == [5]
    np.testing.assert_allclose(wide.boxes, [[16, 0, 48, 32]])
    np.testing.assert_allclose(square.boxes, [[8, 0, 24, 16]])
    np.testing.assert_allclose(square.scores, [0.8], rtol=1e-6)


def test_a_photo_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "d.tar", coco_files([(64, 128)], ["cat"]))
    with open_dataset(path) as dataset:
        dataset.photos = (dataset.photos[0].__class__(1, "1.jpg", 128, 64),)
        with pytest.raises(DatasetError, match="is 128x64, its annotations are for 64x128"):
            measure(DetectionScorer(dataset, LABELS), [OneCell()], CONVENTION, lambda: None)


def test_data_without_any_of_the_labels_is_refused(two_photos: Dataset) -> None:
    assert category_ids(two_photos, LABELS).tolist() == [-1, 5, -1]
    with pytest.raises(DatasetError, match="annotates none of the task's 1 labels"):
        category_ids(two_photos, ["zebra"])


def test_a_detector_of_other_classes_is_refused(two_photos: Dataset) -> None:
    scorer = DetectionScorer(two_photos, LABELS[:2])
    with pytest.raises(GraphFailed, match="scores 3 classes, the manifest labels 2"):
        measure(scorer, [OneCell()], CONVENTION, lambda: None)

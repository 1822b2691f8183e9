"""DeepLab post-processing: where logits lie, what covers the picture, and outputs that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize
from splitcodec.tasks import ClassShare, ResultLimits, SegmentationMask, postprocess_for
from splitcodec.tasks import deeplab as module
from splitcodec.tasks.deeplab import as_runs, class_map, contenders, deeplab, map_size

LABELS = ("background", "cat", "dog")
LIMITS = ResultLimits()


def left_and_right() -> NDArray[np.float32]:
    """Logits [2, 2, 2] of a 64-pixel canvas: class 1 has -1 at column 0 and +1 at column 32, class 0 none."""
    logits = np.zeros((2, 2, 2), np.float32)
    logits[1] = (-1.0, 1.0)
    return logits


def brute_class_map(
    logits: NDArray[np.float32], size: FrameSize, height: int, width: int
) -> NDArray[np.uint16]:
    """The rule, one pixel at a time."""
    window, (down, across) = size.source_window, size.scale
    strides = size.network_height / logits.shape[1], size.network_width / logits.shape[2]
    out = np.empty((height, width), np.uint16)
    for row in range(height):
        for column in range(width):
            y = ((row + 0.5) * size.source_height / height - window.top) * down - 0.5
            x = ((column + 0.5) * size.source_width / width - window.left) * across - 0.5
            at_rows = np.arange(logits.shape[1]) * strides[0]
            at_columns = np.arange(logits.shape[2]) * strides[1]
            scores = [
                np.interp(y, at_rows, [np.interp(x, at_columns, line) for line in plane]) for plane in logits
            ]
            out[row, column] = int(np.argmax(scores))
    return out


def test_logits_lie_on_the_first_pixel_of_each_stride() -> None:
    found = class_map(left_and_right(), FrameSize(64, 64, 64, 64, "stretch"), 64, 64)
    # Halfway between the samples on pixels 0 and 32 the two classes are level; the first one wins a tie.
    assert (found[:, :17] == 0).all()
    assert (found[:, 17:] == 1).all()


def test_the_map_covers_a_stretched_picture() -> None:
    found = class_map(left_and_right(), FrameSize(32, 128, 64, 64, "stretch"), 32, 128)
    assert found.shape == (32, 128)
    # Source pixel 33 shows canvas 16.25 to 16.75, the first beyond the tie at 16.
    assert (found[:, :33] == 0).all()
    assert (found[:, 33:] == 1).all()


def test_the_fill_of_a_letterbox_is_not_on_the_map() -> None:
    logits = np.zeros((2, 8, 8), np.float32)
    logits[1, 5:] = 9.0  # below the picture, which ends at row 32
    found = class_map(logits, FrameSize(50, 100, 64, 64, "letterbox"), 50, 100)
    assert (found == 0).all()


def test_what_a_crop_leaves_out_goes_on_from_its_border() -> None:
    size = FrameSize(64, 192, 64, 64, "crop")
    found = class_map(left_and_right(), size, 64, 192)
    assert (found[:, : 64 + 17] == 0).all()
    assert (found[:, 64 + 17 :] == 1).all()


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("seed", range(3))
def test_the_map_equals_the_rule_pixel_by_pixel(fit: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 60, 2))
    size = FrameSize(height, width, 64, 96, fit, 0.8 if fit == "crop" else 1.0)
    logits = rng.normal(size=(4, 8, 12)).astype(np.float32)
    for shape in ((height, width), (height // 2, width // 3)):
        found, wanted = class_map(logits, size, *shape), brute_class_map(logits, size, *shape)
        assert (found != wanted).mean() < 0.002  # float32 against float64 where two classes are level


def test_a_result_names_each_class_with_its_share() -> None:
    logits = np.concatenate([left_and_right(), np.full((1, 2, 2), -9.0, np.float32)])
    answer = deeplab({"logits": logits[None]}, FrameSize(64, 64, 64, 64, "stretch"), LABELS, LIMITS)
    assert (answer.height, answer.width) == (64, 64)
    assert answer.classes == (
        ClassShare("cat", 1, 47 / 64),
        ClassShare("background", 0, 17 / 64),
    )
    assert answer.run_classes == (0, 1) * 64
    assert answer.run_lengths == (17, 47) * 64
    assert (answer.class_map()[:, 16:18] == (0, 1)).all()


def test_runs_go_on_across_rows_and_come_back_as_the_map() -> None:
    classes = np.array([[0, 0, 2], [2, 2, 1]], np.uint16)
    answer = as_runs(classes, LABELS)
    assert isinstance(answer, SegmentationMask)
    assert (answer.run_classes, answer.run_lengths) == ((0, 2, 1), (2, 3, 1))
    np.testing.assert_array_equal(answer.class_map(), classes)


def test_no_side_of_a_map_is_above_its_limit() -> None:
    assert map_size(FrameSize(600, 800, 64, 64)) == (600, 800)
    assert map_size(FrameSize(3000, 4000, 64, 64)) == (768, 1024)
    assert map_size(FrameSize(4000, 1, 64, 64)) == (1024, 1)


def test_a_map_with_too_many_runs_comes_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    size = FrameSize(64, 63, 64, 64, "stretch")
    fine = deeplab({"logits": logits}, size, LABELS, LIMITS)
    monkeypatch.setattr(module, "MAX_MAP_RUNS", len(fine.run_lengths) - 1)
    coarse = deeplab({"logits": logits}, size, LABELS, LIMITS)
    assert (coarse.height, coarse.width) == (32, 32)
    assert len(coarse.run_lengths) <= module.MAX_MAP_RUNS
    np.testing.assert_array_equal(coarse.class_map(), brute_class_map(logits[0], size, 32, 32))


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ({}, "needs logits"),
        ({"logits": np.zeros((2, 3, 8, 8), np.float32)}, "one frame"),
        ({"logits": np.zeros((1, 3), np.float32)}, "one frame"),
        ({"logits": np.zeros((1, 3, 0, 8), np.float32)}, "one frame"),
        ({"logits": np.zeros((1, 3, 7, 8), np.float32)}, "do not divide a canvas of 64x64"),
        ({"logits": np.full((1, 3, 8, 8), np.nan, np.float32)}, "not finite"),
        ({"logits": np.zeros((1, 4, 8, 8), np.float32)}, "scores 4 classes, the manifest labels 3"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs: dict[str, NDArray[np.float32]], reason: str) -> None:
    with pytest.raises(GraphFailed, match=reason):
        deeplab(outputs, FrameSize(64, 64, 64, 64, "stretch"), LABELS, LIMITS)


def test_a_manifest_reaches_it_by_name() -> None:
    assert postprocess_for("deeplab") is deeplab


def test_a_class_that_is_nowhere_best_among_the_samples_may_win_between_them() -> None:
    """Two classes have the corners to themselves; a third, second everywhere, wins in the middle."""
    logits = np.zeros((4, 2, 2), np.float32)
    logits[0] = [[10.0, 0.0], [10.0, 0.0]]
    logits[1] = [[0.0, 10.0], [0.0, 10.0]]
    logits[2] = 9.0
    logits[3] = -1.0
    assert contenders(logits).tolist() == [0, 1, 2]
    found = class_map(logits, FrameSize(64, 64, 64, 64, "stretch"), 64, 64)
    assert found[32, 16] == 2
    assert found[32, 0] == 0


@pytest.mark.parametrize("shape", [(21, 5, 7), (21, 1, 4), (3, 1, 1)])
def test_leaving_classes_out_changes_no_pixel(shape: tuple[int, int, int]) -> None:
    logits = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    logits[2] += 6.0
    logits[0, 0, 0] += 9.0
    size = FrameSize(90, 120, 16 * shape[1], 16 * shape[2], "stretch")
    found, wanted = class_map(logits, size, 45, 60), brute_class_map(logits, size, 45, 60)
    assert (found != wanted).mean() < 0.002  # float32 against float64 where two classes are level
    assert len(contenders(logits)) < shape[0]

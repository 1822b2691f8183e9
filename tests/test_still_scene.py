"""Pictures that do not differ from the last one sent are left out, but never for long."""

from __future__ import annotations

import numpy as np
import pytest

from splitcodec.still_scene import HEIGHT, STILL_S, WIDTH, ChangeGate, change

STILL = np.full((HEIGHT, WIDTH), 90, np.uint8)


def with_square(grey: int) -> np.ndarray:
    """One block of another shade."""
    picture = STILL.copy()
    picture[8:16, 16:24] = grey
    return picture


def test_a_small_thing_that_moves_is_as_good_as_a_whole_picture_that_changes() -> None:
    assert change(STILL, STILL) == 0
    assert change(STILL, with_square(120)) == 30
    assert change(STILL, STILL + 30) == 30
    assert change(with_square(0), with_square(255)) == 255


@pytest.mark.parametrize(("grey", "passes"), [(90, False), (93, False), (94, True), (255, True)])
def test_a_picture_passes_from_the_change_on_that_was_asked_for(grey: int, passes: bool) -> None:
    gate = ChangeGate(4, lambda: 0.0)
    assert gate.passes(STILL)
    assert gate.passes(with_square(grey)) is passes


def test_slow_change_adds_up_against_what_was_sent() -> None:
    gate = ChangeGate(4, lambda: 0.0)
    assert [gate.passes(with_square(90 + step)) for step in range(9)] == [
        True, False, False, False, True, False, False, False, True
    ]  # fmt: skip


def test_a_scene_that_rests_is_sent_once_a_minute() -> None:
    now = [0.0]
    gate = ChangeGate(4, lambda: now[0])
    sent = []
    for step in range(150):
        now[0] = float(step)
        if gate.passes(STILL):
            sent.append(step)
    assert sent == [0, int(STILL_S), 2 * int(STILL_S)]


def test_no_change_asked_for_lets_everything_pass() -> None:
    gate = ChangeGate(0, lambda: 0.0)
    assert all(gate.passes(STILL) for _ in range(3))

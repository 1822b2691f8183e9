"""The background thread of training: bounded, in order, ended by close, and never silent about an error."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from splitcodec.errors import DatasetError, TrainingError
from splitcodec.training.prefetch import Prefetcher


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_items_come_in_order() -> None:
    with Prefetcher(count().__next__, ahead=2) as prefetcher:
        assert [prefetcher.next() for _ in range(50)] == list(range(50))


def test_no_more_is_made_than_fits_ahead() -> None:
    made: list[int] = []
    filled = threading.Event()

    def make() -> int:
        made.append(len(made))
        if len(made) == 3:
            filled.set()
        return made[-1]

    with Prefetcher(make, ahead=3) as prefetcher:
        assert filled.wait(60)
    assert made == [0, 1, 2], "closing waited for the thread, so nothing is added any more"
    with Prefetcher(make, ahead=3) as prefetcher:
        for _ in range(4):
            prefetcher.next()
    assert len(made) <= 3 + 4 + 3


@pytest.mark.parametrize("taken", [0, 5])
def test_close_ends_the_thread_and_may_be_repeated(taken: int) -> None:
    prefetcher = Prefetcher(count().__next__, ahead=2, name="to-be-closed")
    assert threads_named("to-be-closed")
    for _ in range(taken):
        prefetcher.next()
    prefetcher.close()
    prefetcher.close()
    assert not threads_named("to-be-closed")
    with pytest.raises(TrainingError, match="to-be-closed is closed and gives nothing more; open another"):
        prefetcher.next()


def test_an_error_in_the_body_ends_the_thread_too() -> None:
    with pytest.raises(KeyError), Prefetcher(count().__next__, ahead=2, name="in-a-with"):
        raise KeyError("body")
    assert not threads_named("in-a-with")


def test_an_exception_of_the_thread_is_raised_in_its_place_and_ever_after() -> None:
    numbers = count()

    def make() -> int:
        number = next(numbers)
        if number == 2:
            raise DatasetError("photo 2 is gone")
        return number

    with Prefetcher(make, ahead=4, name="failing") as prefetcher:
        assert [prefetcher.next(), prefetcher.next()] == [0, 1]
        depths = []
        for _ in range(3):
            with pytest.raises(DatasetError, match="photo 2 is gone") as caught:
                prefetcher.next()
            depths.append(len(caught.traceback))
        assert depths[0] == depths[2], "its traceback does not grow"


def test_closing_wakes_a_thread_that_waits_for_the_next_item() -> None:
    making, finish = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def make() -> int:
        making.set()
        finish.wait(60)
        return 1

    prefetcher = Prefetcher(make, ahead=1)

    def wait_for_one() -> None:
        try:
            prefetcher.next()
        except TrainingError as error:
            raised.append(error)

    assert making.wait(60)
    waiting, closing = threading.Thread(target=wait_for_one), threading.Thread(target=prefetcher.close)
    waiting.start()
    closing.start()
    waiting.join(60)
    finish.set()
    closing.join(60)
    assert len(raised) == 1
    assert not closing.is_alive()

"""Which group goes next: by a clock that the test holds."""

from __future__ import annotations

import time
from typing import ClassVar

from cloud.group_queue import GroupQueue


def queue_of(*came: tuple[str, float], max_batch: int = 2, window_s: float = 10.0) -> GroupQueue[str]:
    """Items by name and time of arrival; an item's group is its first letter."""
    queue: GroupQueue[str] = GroupQueue(max_batch, window_s)
    for item, at in came:
        queue.put(item, item[0], at)
    return queue


def test_a_full_group_does_not_wait_behind_one_that_gathers() -> None:
    queue = queue_of(("a1", 0.0), ("b1", 1.0), ("b2", 2.0))
    assert queue.take(2.0) == ["b1", "b2"]
    assert queue.take(2.0) == []


def test_of_the_full_groups_the_one_with_the_oldest_item_is_first() -> None:
    queue = queue_of(("a1", 0.0), ("b1", 1.0), ("b2", 2.0), ("a2", 3.0))
    assert [queue.take(3.0), queue.take(3.0)] == [["a1", "a2"], ["b1", "b2"]]


def test_without_a_full_group_the_one_that_is_due_first_goes_when_it_is_due() -> None:
    queue = queue_of(("a1", 0.0), ("b1", 4.0))
    assert (queue.take(9.9), queue.next_due()) == ([], 10.0)
    assert (queue.take(10.0), queue.next_due()) == (["a1"], 14.0)
    assert (queue.take(14.0), queue.next_due()) == (["b1"], None)


def test_two_groups_that_are_always_full_do_not_starve_one_that_is_due() -> None:
    queue = queue_of(("c1", 0.5), window_s=3.0)
    served: list[str] = []
    for now in range(20):  # a worker takes a batch each second, and two come
        for group in "ab":
            queue.put(f"{group}{now}", group, float(now))
            queue.put(f"{group}{now}'", group, float(now))
        served += [item[0] for item in queue.take(float(now))]
    assert served.index("c") / 2 <= 4  # due at 3.5: taken by the batch after that


def test_a_batch_is_in_order_of_arrival_and_leaves_the_rest_of_a_long_line() -> None:
    queue = queue_of(*((f"a{n}", float(n)) for n in range(5)))
    assert [queue.take(4.0), queue.take(4.0)] == [["a0", "a1"], ["a2", "a3"]]
    assert (queue.take(4.0), queue.next_due()) == ([], 14.0)
    assert queue.clear() == ["a4"]
    assert queue.next_due() is None


def test_an_item_that_was_removed_does_not_count() -> None:
    queue = queue_of(("a1", 0.0), ("a2", 1.0), ("b1", 2.0))
    queue.discard("a1", "a")
    queue.discard("a1", "a")
    assert (queue.take(2.0), queue.next_due()) == ([], 11.0)
    queue.discard("a2", "a")
    queue.discard("gone", "g")
    assert queue.next_due() == 12.0


class Counted(str):
    """An item that counts how often it is compared; its hash is its text's."""

    compared: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_removing_costs_the_same_however_many_wait() -> None:
    items = [Counted(f"a{n}") for n in range(2000)]
    queue: GroupQueue[Counted] = GroupQueue(2, 0.0)
    for item in items:
        queue.put(item, "a", time.perf_counter())
    Counted.compared = 0
    for item in items[1::2]:
        queue.discard(Counted(item), "a")
    taken = [queue.take(time.perf_counter()) for _ in range(500)]
    assert [item for batch in taken for item in batch] == items[::2]
    assert Counted.compared < 20 * len(items)

"""Token buckets: the rate on average, the burst at once, one caller never at another's cost."""

from __future__ import annotations

import pytest

from splitcodec import throttle
from splitcodec.throttle import Throttle


class Clock:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    bucket = Throttle(rate_per_s=10, burst=3, clock=clock)
    assert [bucket.take("a") for _ in range(3)] == [0, 0, 0]
    assert bucket.take("a") == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.take("a") == 0
    assert bucket.take("a") > 0
    clock.now += 3600
    assert [bucket.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    bucket = Throttle(rate_per_s=1, burst=1, clock=clock)
    bucket.take("a")
    for _ in range(100):
        assert bucket.take("a") == pytest.approx(1)
    clock.now += 1
    assert bucket.take("a") == 0


def test_callers_do_not_share_a_bucket() -> None:
    bucket = Throttle(rate_per_s=1, burst=1, clock=Clock())
    assert bucket.take("a") == 0
    assert bucket.take("a") > 0
    assert bucket.take("b") == 0


def test_those_who_wait_are_served_at_the_rate() -> None:
    bucket = Throttle(rate_per_s=10, burst=1, clock=Clock())
    assert [bucket.reserve("a") for _ in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_memory_is_bounded_whatever_keys_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 8)
    bucket = Throttle(rate_per_s=1, burst=2, clock=Clock())
    bucket.take("busy")
    for name in range(1000):
        bucket.take(str(name))
        bucket.reserve("busy")
    assert len(bucket._buckets) == 8
    assert bucket.take("busy") > 0

"""A frame above every seq of its camera needs no look into the database; every other one gets it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from cloud_helpers import PATIENCE_S, infer_request, running

from cloud.messages import FrameKey
from cloud.result_log import HighestSeqs
from cloud.store import ResultStore
from splitcodec.wire.v1.results_pb2 import TaskResult

DOOR, GATE, YARD = ("box", "door"), ("box", "gate"), ("box", "yard")


class _CountingStore(ResultStore):
    """`looks`: what was looked up, seq by seq, from any thread."""

    looks: list[int]
    lock = threading.Lock()

    def look_up(self, key: FrameKey) -> TaskResult | None:
        with self.lock:
            self.looks.append(key.seq)
        return super().look_up(key)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    _CountingStore.looks = []
    monkeypatch.setattr("cloud.server.ResultStore", _CountingStore)
    return _CountingStore.looks


async def test_frames_in_rising_order_are_not_looked_up_and_repeated_ones_are(
    tmp_path: Path, looks: list[int]
) -> None:
    async with running(tmp_path) as cloud:
        for seq in (3, 4, 9):
            answer = await cloud.ingest.Infer(infer_request(seq), timeout=PATIENCE_S)
            assert not answer.repeated_frame
        assert looks == []
        again = await cloud.ingest.Infer(infer_request(4), timeout=PATIENCE_S)
        assert again.repeated_frame
        late = await cloud.ingest.Infer(infer_request(7), timeout=PATIENCE_S)
        assert not late.repeated_frame
    assert looks == [4, 7]


async def test_a_restarted_cloud_knows_what_was_stored_before(tmp_path: Path, looks: list[int]) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(5), timeout=PATIENCE_S)
    async with running(tmp_path) as cloud:
        again = await cloud.ingest.Infer(infer_request(5), timeout=PATIENCE_S)
        fresh = await cloud.ingest.Infer(infer_request(6), timeout=PATIENCE_S)
    assert again.repeated_frame
    assert not fresh.repeated_frame
    assert looks == [5]


async def test_one_frame_sent_twice_at_once_is_stored_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        calls = [cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S) for _ in range(4)]
        answers = await asyncio.gather(*calls)
    assert sorted(answer.repeated_frame for answer in answers) == [False, True, True, True]
    assert len({answer.result.cursor for answer in answers}) == 1


def test_a_lane_that_the_store_was_not_asked_about_stays_unknown() -> None:
    highest = HighestSeqs()
    highest.stored(DOOR, 7)
    assert highest.get(DOOR) is None, "the store may hold higher ones"
    highest.learn(DOOR, 3)
    highest.stored(DOOR, 7)
    highest.learn(DOOR, 5)
    assert highest.get(DOOR) == 7, "what came meanwhile stays"


def test_lanes_that_were_silent_longest_are_forgotten() -> None:
    highest = HighestSeqs(max_lanes=2)
    highest.learn(DOOR, 1)
    highest.learn(GATE, 1)
    highest.stored(DOOR, 2)
    highest.learn(YARD, 1)
    assert highest.get(GATE) is None
    assert (highest.get(DOOR), highest.get(YARD)) == (2, 1)

"""Frames that hold cells in a spool that must drop some: what is left of a chain can always be decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kept_spool import ROOMY, Kept, outgoing

from edge.spool_policy import SpoolLimits
from edge.uplink import OutgoingFrame
from splitcodec.errors import StateMismatch

SMALL = 400_000  # bytes of a spool that about 90 frames of 4 kB fill


def link(seq: int, keys: int, camera: str = "door", num_bytes: int = 4000) -> OutgoingFrame:
    """A frame of chains of `keys` frames each."""
    frame = outgoing(seq, camera, num_bytes)
    return frame if seq % keys == 0 else replace(frame, bitstream=b"\xb2" + frame.bitstream[1:])


def put(kept: Kept, frame: OutgoingFrame, worth: int = 0) -> bool:
    """False: it builds on a frame that is gone. What was dropped for it stays so, as in SpoolLog."""
    with kept.spool.transaction():
        try:
            kept.spool.put(frame, worth)
        except StateMismatch:
            return False
    return True


def fill(kept: Kept, keys: int, start: int = 0) -> int:
    """Frames until some were dropped; the seq of the last one that was taken."""
    seq = start
    while kept.counted("dropped") == 0:
        if put(kept, link(seq, keys)):
            seq += 1
    return seq - 1


def chains(seqs: list[int], keys: int) -> dict[int, list[int]]:
    """The frames that are left, by the key frame of their chain."""
    found: dict[int, list[int]] = {}
    for seq in seqs:
        found.setdefault(seq - seq % keys, []).append(seq)
    return found


@pytest.mark.parametrize("keys", [1, 7, 40])
def test_what_is_left_of_a_full_spool_can_be_decoded(tmp_path: Path, keys: int) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    last = fill(kept, keys)
    left = kept.seqs()
    assert left == list(range(left[0], last + 1))  # the oldest went
    assert left[0] % keys == 0
    assert kept.counted("dropped", "oldest") == left[0] == kept.counted("dropped")
    assert kept.fate(left[0] - 1) == ("dropped", "oldest")


def test_thinning_takes_whole_chains_and_spares_those_with_detections(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "thin", keep_every=3))
    kept.put([link(seq, 10) for seq in range(10, 20)], worth=1)
    last = fill(kept, 10, start=20)
    left = chains(kept.seqs(), 10)
    assert last > 80
    assert {key: len(frames) for key, frames in left.items() if key < 80} == {10: 10, 40: 10, 70: 10}
    assert kept.counted("dropped", "thinned") == kept.counted("dropped")


def test_a_chain_longer_than_the_spool_ends_and_the_next_frame_must_be_whole(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    last = fill(kept, 1000)
    assert kept.seqs() == []
    assert kept.counted("dropped", "oldest") == last + 1
    assert not put(kept, link(last + 1, 1000))
    kept.put([link(1000, 1000), link(1001, 1000)])
    assert kept.seqs() == [1000, 1001]


def test_age_takes_frames_up_to_the_next_key_frame(tmp_path: Path) -> None:
    kept = Kept(tmp_path, replace(ROOMY, max_age_s=100))
    kept.put([link(seq, 10) for seq in range(13)])
    kept.clock.now += 60
    kept.put([link(seq, 10) for seq in range(13, 24)])
    kept.clock.now += 60  # seq 0 to 12 are too old
    with kept.spool.transaction():
        kept.spool.expire()
    assert kept.seqs() == [20, 21, 22, 23]
    assert kept.counted("dropped", "age") == 20


def test_a_chain_of_another_camera_is_left_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SpoolLimits(SMALL, 86_400, "drop-oldest"))
    kept.put([link(0, 1000), *(link(seq, 1000, "yard") for seq in range(20))])
    kept.put([link(seq, 1000) for seq in range(1, 5)])
    with kept.spool.transaction():
        kept.spool.take(("box", "yard"), -1, 20)  # they are being sent
    fill(kept, 1000, start=5)
    assert kept.seqs(("box", "yard")) == list(range(20))
    assert put(kept, link(20, 1000, "yard"))
    assert kept.seqs() == []


def test_after_a_start_nothing_builds_on_what_was_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.put([link(0, 10), link(1, 10)])
    kept.reopen()
    assert not put(kept, link(2, 10))
    kept.put([link(10, 10), link(11, 10)])
    assert kept.seqs() == [0, 1, 10, 11]

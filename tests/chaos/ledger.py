"""What was accepted against what subscribers saw: the one place that counts lost, doubled and disordered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FrameName = tuple[str, int]
"""Camera and seq; a run has one device."""


@dataclass
class Ledger:
    """What the edge said yes to, from any thread; refused: by HTTP status; unanswered: the call broke."""

    accepted: list[FrameName] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    lock: threading.Condition = field(default_factory=threading.Condition)

    def accept(self, camera: str, seq: int) -> None:
        with self.lock:
            self.accepted.append((camera, seq))
            self.lock.notify_all()

    def refuse(self, status: int) -> None:
        with self.lock:
            self.refused[status] += 1

    def break_off(self) -> None:
        with self.lock:
            self.unanswered += 1

    @property
    def without_yes(self) -> int:
        """Frames that were posted and never accepted."""
        return self.unanswered + sum(self.refused.values())

    def wait_for(self, frames: int, timeout_s: float) -> bool:
        """Until so many frames were accepted in all."""
        with self.lock:
            return self.lock.wait_for(lambda: len(self.accepted) >= frames, timeout_s)


@dataclass(frozen=True)
class Verdict:
    """The end of a run.

    given_up: accepted, and reported by the edge as given up (damage); unanswered_but_seen: the client never
    got to hear of them, or was told no after the cloud had them; unexplained: seen, and posted by nobody.
    """

    accepted: int
    seen: int
    lost: int
    duplicated: int
    reordered: int
    unanswered_but_seen: int
    unexplained: int
    given_up: int

    @property
    def sound(self) -> bool:
        """Nothing lost beyond what was reported, nothing twice, everything in order, nothing made up."""
        return self.lost <= self.given_up and not (self.duplicated + self.reordered + self.unexplained)

    def row(self) -> str:
        """The counts as one line."""
        return (
            f"accepted={self.accepted} seen={self.seen} lost={self.lost} duplicated={self.duplicated} "
            f"reordered={self.reordered} unanswered_but_seen={self.unanswered_but_seen} "
            f"unexplained={self.unexplained} given_up={self.given_up}"
        )


def judge(
    accepted: Iterable[FrameName], seen: list[FrameName], given_up: int = 0, without_yes: int = 0
) -> Verdict:
    """Compare one subscriber's view, in the order it came, with what the edge accepted.

    without_yes: frames that were posted and never accepted: refused, or the answer broke off.
    """
    wanted, times = set(accepted), Counter(seen)
    newest: dict[str, int] = {}
    disordered = 0
    for camera, seq in seen:
        disordered += seq < newest.get(camera, -1)
        newest[camera] = max(seq, newest.get(camera, -1))
    extra = len(times.keys() - wanted)
    return Verdict(
        accepted=len(wanted),
        seen=len(seen),
        lost=len(wanted - times.keys()),
        duplicated=sum(count - 1 for count in times.values()),
        reordered=disordered,
        unanswered_but_seen=extra,
        unexplained=max(0, extra - without_yes),
        given_up=given_up,
    )

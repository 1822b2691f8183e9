"""What becomes of frames by what the cloud says: answered, refused for now, given up, acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from edge.lane import CameraLane, Refusal, UnderWay
from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.uplink import CloudAnswer, FrameKey, Refused, Reply
from splitcodec.errors import CloudRefused, CloudUnavailable
from splitcodec.tasks import UnknownAnswer

log = logging.getLogger(__name__)

REFUSALS: Final = 5  # so many for one frame itself ...
REFUSED_FOR_S: Final = 300.0  # ... over at least this long, then it is given up: the cloud may only be ill
_NO_RESULT: Final = (
    "the cloud acknowledged the frame without a result; use TLS, and deploy the same version on both sides"
)
_SETTLED_BEFORE: Final = "the cloud answered the frame before and deleted its result since; send a new frame"


class Replies:
    """Applies replies to an outbox. Belongs to its event loop."""

    def __init__(self, outbox: Outbox, metrics: EdgeMetrics, patience_s: float) -> None:
        """patience_s: how long a frame waits for a cloud whose roll-out would cure its refusal."""
        self.on_answer: Callable[[CloudAnswer, float], None] = lambda answer, seconds: None
        """Called with an answer that nobody waits for, and the seconds since its frame left."""
        self.on_given_up: Callable[[str], None] = lambda camera: None
        """Called with the camera of a frame that is never sent again: nothing can build on it."""
        self._passed_over = ""  # which frame was acknowledged without an answer
        self.refused = ""  # why the stream will end, if a frame's refusal ends it
        self._outbox = outbox
        self._metrics = metrics
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()

    def apply(self, reply: Reply) -> list[FrameKey]:
        """The frames that the reply settled. CloudUnavailable: it acknowledges one that it never spoke of."""
        for answer in reply.answers:
            self._answered(answer)
        for key in reply.unread:
            if one := self._outbox.lane((key.device, key.camera)).under_way.get(key.seq):
                one.answered = True
        for refused in reply.refusals:
            self._refused(refused)
        self._passed_over = ""
        settled = [key for ack in reply.acks for key in self._acknowledged(ack)]
        self._outbox.note_progress()
        if self._passed_over:
            raise CloudUnavailable(self._passed_over)
        return settled

    def _answered(self, answer: CloudAnswer) -> None:
        lane = self._outbox.lane((answer.key.device, answer.key.camera))
        one = lane.under_way.get(answer.key.seq)
        if one is None:
            log.warning("the cloud answered %s, which is not under way", answer.key)
            return
        one.answered, lane.given_up = True, ""
        if lane.refusal is not None and lane.refusal.seq == answer.key.seq:
            lane.refusal = None
        if isinstance(answer.answer, UnknownAnswer):
            self._metrics.unknown_results.inc()
        if answer.answer.objects is not None:
            lane.worth = answer.answer.objects
        entry = lane.entries.get(answer.key.seq)
        if entry is not None and entry.awaited and not entry.answer.done():
            entry.answer.set_result(answer)
        else:
            self.on_answer(answer, self._loop.time() - one.sent_at)

    def _refused(self, refused: Refused) -> None:
        lane = self._outbox.lane((refused.key.device, refused.key.camera))
        one = lane.under_way.get(refused.key.seq)
        if one is None or refused.passing:
            return
        if refused.settled:
            one.refused = refused
            return
        self.refused = f"{refused.error}: {refused.message}"
        refusal = self._count(lane, refused)
        if self._is_hopeless(lane, refusal, refused):
            self._give_up(lane, one, refused)
        else:
            lane.hold(self._loop.time() + refusal.hold_s, f"the cloud refused a frame: {self.refused}")

    def _count(self, lane: CameraLane, refused: Refused) -> Refusal:
        if lane.refusal is None or lane.refusal.seq != refused.key.seq:
            lane.refusal = Refusal(refused.key.seq, self._loop.time())
        lane.refusal.times += 1
        return lane.refusal

    def _is_hopeless(self, lane: CameraLane, refusal: Refusal, refused: Refused) -> bool:
        if not refused.curable:
            return refusal.times >= REFUSALS and self._loop.time() - refusal.since >= REFUSED_FOR_S
        return lane.given_up == refused.error or self._loop.time() - refusal.since >= self._patience_s

    def _give_up(self, lane: CameraLane, one: UnderWay, refused: Refused) -> None:
        """Never send it again: on disk it is quarantined, a client that waits is told."""
        lane.given_up = refused.error
        lane.refusal = None
        self.on_given_up(lane.name[1])
        detail, seq = f"{refused.error}: {refused.message}", one.frame.seq
        entry = lane.entries.pop(seq, None)
        if one.from_disk or (entry is not None and entry.on_disk):
            log.error("frame %s of %s is given up: %s", seq, lane.name, detail)
            self._outbox.write(lambda spool: spool.quarantine(lane.name, seq, "refused", detail))
        if entry is not None and not entry.answer.done():
            entry.answer.set_exception(CloudRefused(f"the cloud refused the frame: {detail}"))

    def _covered(self, lane: CameraLane, ack: int) -> list[int]:
        """Frames under way up to an ack, but none from the first on of which the cloud said nothing: what it
        said was lost on the way, or the frame was. It is sent again, and given up as one that is refused.
        """
        covered: list[int] = []
        for seq, one in lane.under_way.items():
            if seq > ack:
                break
            if not one.answered and one.refused is None:
                key = FrameKey(lane.name[0], lane.name[1], seq)
                silence = Refused(key, False, False, False, "NoResult", _NO_RESULT)
                if not self._is_hopeless(lane, self._count(lane, silence), silence):
                    self._passed_over = f"frame {seq} of {lane.name}: {_NO_RESULT}"
                    break
                one.refused = silence
            covered.append(seq)
        return covered

    def _acknowledged(self, ack: FrameKey) -> list[FrameKey]:
        lane = self._outbox.lane((ack.device, ack.camera))
        settled = self._covered(lane, ack.seq)
        done: list[int] = []
        for seq in settled:
            one, entry = lane.under_way[seq], lane.entries.get(seq)
            lost = one.refused is not None and not one.refused.delivered
            if one.refused is not None and lost:
                self._give_up(lane, one, one.refused)
            elif one.from_disk or (entry is not None and entry.on_disk):
                done.append(seq)
            if not lost:
                self._metrics.delivered.labels("spool" if one.from_disk else "live").inc()
            if entry is not None and not entry.answer.done():
                entry.answer.set_exception(CloudRefused(_SETTLED_BEFORE if one.refused else _NO_RESULT))
            lane.entries.pop(seq, None)
            self._outbox.left_stream(lane.under_way.pop(seq))
        if done:
            self._outbox.write(lambda spool: spool.settle(lane.name, done))
        return [FrameKey(lane.name[0], lane.name[1], seq) for seq in settled]

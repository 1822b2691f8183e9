"""Keeps a stream to the cloud open, sends what the outbox owes and applies what comes back, until stopped."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from edge.metrics import EdgeMetrics
from edge.outbox import Outbox
from edge.rate_control import RateControl
from edge.replies import Replies
from edge.uplink import CloudStream, FrameKey, Uplink
from edge.waiting import wait_set
from splitcodec.background import keep_going
from splitcodec.errors import CloudUnavailable
from splitcodec.rate_control.link import Sent

log = logging.getLogger(__name__)

BACKOFF_S: Final = (0.1, 2.0)  # first and longest pause between tries; gRPC paces its connections too
LONGEST_SILENCE_S: Final = 120.0
TEND_S: Final = 1.0
CANCEL_AGAIN_S: Final = 0.5
STOPPED: Final = "delivery was stopped"
EXPIRE_S: Final = 60.0
AGAIN_S: Final = 1.0  # pause after a failure that nobody foresaw


class Delivery:
    """Runs in the event loop from `start` to `stop`; what is not acknowledged by then stays in the outbox."""

    def __init__(
        self,
        uplink: Uplink,
        outbox: Outbox,
        replies: Replies,
        rates: RateControl,
        metrics: EdgeMetrics,
        deadline_s: float,
    ) -> None:
        """deadline_s: for how long the cloud may owe a reply before the stream counts as dead."""
        self._uplink = uplink
        self._outbox = outbox
        self._replies = replies
        self._rates = rates
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._patience_s = deadline_s
        self._failures = 0
        self._expired_at = 0.0
        self._sent: dict[FrameKey, Sent] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; frames leave as soon as the cloud is there."""
        self._expired_at = asyncio.get_running_loop().time()
        delivering = keep_going("delivery", self._run, AGAIN_S, self._metrics.background_failures)
        self._tasks = [asyncio.create_task(delivering), asyncio.create_task(self._keep_tending())]

    async def stop(self) -> None:
        """End the stream; what was not acknowledged is sent by the next edge that opens the spool."""
        running = set(self._tasks)
        while running:  # gRPC may lose a cancellation that meets the end of a call
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
        await self._outbox.stop()

    async def drain(self, timeout_s: float) -> None:
        """Until nothing is owed, the cloud is away, or timeout_s is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while not self._outbox.empty and not self._outbox.why_away and (left := end - loop.time()) > 0:
            self._outbox.moved.clear()
            await wait_set(self._outbox.moved, left)

    async def _run(self) -> None:
        """One stream after another, until an error that nobody foresaw."""
        await self._outbox.find_backlog()
        while True:
            await self._stream()
            await self._outbox.find_backlog()
            if not self._replies.refused:
                await asyncio.sleep(self._backoff())

    async def _stream(self) -> None:
        """One stream, from its beginning to its end."""
        why = STOPPED
        self._replies.refused = ""
        try:
            async with self._uplink.stream() as stream:
                self._outbox.opened(stream.held_frames)
                self._metrics.uplink_up.set(1)
                await self._exchange(stream)
        except CloudUnavailable as error:
            why = str(error)
        except Exception as error:
            why = f"delivery failed: {type(error).__name__}"
            raise
        finally:
            self._end(why)

    def _end(self, why: str) -> None:
        """Nothing is under way any more."""
        for sent in self._sent.values():
            self._rates.lost(sent)
        self._sent.clear()
        self._metrics.uplink_up.set(0)
        refused = self._replies.refused
        self._outbox.closed(refused or why)
        self._metrics.stream_ends.labels("refused" if refused else "away").inc()
        if refused:
            log.warning("the cloud refused a frame: %s", refused)
            return
        if self._failures == 0 and why is not STOPPED:
            log.warning("%s; frames wait on disk", why)
        self._failures += 1
        self._outbox.give_no_hope(why)

    def _backoff(self) -> float:
        longest = min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** min(self._failures, 16))
        return random.uniform(longest / 2, longest)

    async def _exchange(self, stream: CloudStream) -> None:
        """Until the stream ends: CloudUnavailable. Any other error: a part of it failed."""
        # The sender may notice the end first, but the last replies tell why: they are read in any case.
        calls = (self._receive(stream), self._watch(), self._send(stream))
        tasks = [asyncio.create_task(call) for call in calls]
        running = set(tasks)
        try:
            while not any(map(_failed, tasks)):
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error
        raise RuntimeError("a part of the exchange with the cloud was cancelled from within")

    async def _send(self, stream: CloudStream) -> None:
        while True:
            frame = await self._outbox.next(stream.max_in_flight)
            key = FrameKey(frame.device, frame.camera, frame.seq)
            self._sent[key] = self._rates.sent(len(frame.bitstream))
            try:
                await stream.send(frame)
            except CloudUnavailable:
                return

    async def _receive(self, stream: CloudStream) -> None:
        while True:
            settled = self._replies.apply(await stream.receive())
            for key in settled:
                if (sent := self._sent.pop(key, None)) is not None:
                    self._rates.delivered(sent)
            if settled:
                self._failures, self._patience_s = 0, self._deadline_s

    async def _watch(self) -> None:
        """CloudUnavailable once the cloud owes a reply for too long; a slow link gets more time each time."""
        while (silent := self._outbox.silent_for()) < self._patience_s:
            await asyncio.sleep(max(self._patience_s - silent, self._patience_s / 10))
        patience, self._patience_s = self._patience_s, min(2 * self._patience_s, LONGEST_SILENCE_S)
        raise CloudUnavailable(
            f"the cloud did not answer within {patience} s; look at its health and the link"
        )

    async def _keep_tending(self) -> None:
        await asyncio.sleep(TEND_S)
        await keep_going("spool", self._tend, TEND_S, self._metrics.background_failures)

    async def _tend(self) -> None:
        now = asyncio.get_running_loop().time()
        expire = now - self._expired_at >= EXPIRE_S
        if expire:
            self._expired_at = now
        await self._outbox.tend(expire)


def _failed(task: asyncio.Task[None]) -> bool:
    """Whether it ended with an error, or was cancelled, by whomever."""
    return task.done() and (task.cancelled() or task.exception() is not None)

"""What both watchers do: keep the cursor, let no result through twice, decide when to connect again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable

import grpc

from splitcodec.client.answers import StoredResult
from splitcodec.client.cloud_calls import Which, stored_result
from splitcodec.client.failures import final, grpc_failure
from splitcodec.client.retry import Passing, Retry
from splitcodec.errors import CloudUnavailable, SplitcodecError
from splitcodec.wire.names import CURSOR_KEY
from splitcodec.wire.v1 import results_pb2

log = logging.getLogger(__name__)


class Watching:
    """The state of one watch over all its connections; does no I/O."""

    def __init__(
        self, target: str, which: Which, after: int | None, retry: Retry, patience_s: float | None
    ) -> None:
        """after: a cursor, None: from now on; patience_s: without a connection, None: endless."""
        self.cursor = after
        self._target = target
        self._which = which
        self._retry = retry
        self._patience_s = patience_s
        self._before: int | None = None  # cursor of the last result of this connection
        self._failures = 0
        self._away_since = time.monotonic()

    def request(self) -> results_pb2.WatchResultsRequest:
        """For the next connection."""
        which = self._which
        return results_pb2.WatchResultsRequest(
            device=which.device or "",
            camera=which.camera or "",
            task=which.task or "",
            after_cursor=self.cursor,
            without_output=which.without_output,
        )

    def opened(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """The cloud answered; its metadata says after which cursor it starts."""
        for key, value in metadata or ():
            if key == CURSOR_KEY:
                self._failures = 0
                self._before = int(value)
                if self.cursor is None:
                    self.cursor = int(value)

    def is_whole(self, response: results_pb2.WatchResultsResponse) -> bool:
        """Whether nothing was lost between this result and the one before it; else connect again."""
        before, self._before = self._before, response.result.cursor
        whole = before is None or not response.HasField("after_cursor") or response.after_cursor == before
        if not whole:
            log.warning(
                "results behind cursor %s were lost on the way from %s; use TLS", before, self._target
            )
        return whole

    def passed(self, response: results_pb2.WatchResultsResponse) -> StoredResult | None:
        """A result, or None if it was here before. CloudRefused: unreadable; the next one may be fine."""
        cursor = response.result.cursor
        if self.cursor is not None and cursor <= self.cursor:
            return None
        self.cursor = cursor
        self._failures = 0
        return stored_result(response.result)

    def broken(self, error: grpc.RpcError | None) -> float:
        """Seconds to wait before the next connection; None: the cloud ended the stream. Raises a final error.

        CursorOutOfRange: results after the cursor are gone, so going on would leave a gap.
        """
        now = time.monotonic()
        failure = self._failure(error)
        if not isinstance(failure, Passing):
            raise failure
        if self._failures == 0:
            self._away_since = now
        self._failures += 1
        if self._patience_s is not None and now - self._away_since > self._patience_s:
            raise final(failure)
        log.info("watch at cursor %s: %s; connecting again", self.cursor, failure)
        longest = self._retry.first_pause_s * 2 ** min(self._failures - 1, 16)
        return random.uniform(0, min(longest, self._retry.longest_pause_s))

    def _failure(self, error: grpc.RpcError | None) -> SplitcodecError | Passing:
        if error is None:
            return Passing(CloudUnavailable(f"the cloud at {self._target} ended the watch"))
        failure = grpc_failure(self._target, error)
        if isinstance(failure, SplitcodecError) and _cut_off(error):
            return Passing(failure)
        return failure


def _cut_off(error: grpc.RpcError) -> bool:
    """A stream that a proxy or a stopping server reset, by what its status says."""
    code = error.code() if hasattr(error, "code") else None
    details = (error.details() if hasattr(error, "details") else None) or ""
    return code is grpc.StatusCode.CANCELLED or "RST_STREAM" in details

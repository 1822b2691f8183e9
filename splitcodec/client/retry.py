"""When a call is made again, and how long it waits before that; tenacity does the waiting."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_random_exponential

from splitcodec.errors import SettingsError, SplitcodecError


class Passing(Exception):
    """An attempt failed in a way that may pass. error: what the caller gets after the last attempt.

    retry_after_s: the shortest pause the service asked for.
    """

    def __init__(self, error: SplitcodecError, retry_after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Retry:
    """At most `attempts` tries within the call's deadline, with random pauses that double in seconds.

    A pause is from 0 to first_pause_s after the first failure, at most longest_pause_s later on, and never
    shorter than the service asked for. `Retry(attempts=1)` never tries again. SettingsError: out of range.
    """

    attempts: int = 8
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SettingsError(
                f"attempts is {self.attempts}, it must be at least 1; give 1 to try only once"
            )
        if not 0 < self.first_pause_s <= self.longest_pause_s:
            raise SettingsError(
                f"first_pause_s is {self.first_pause_s} and longest_pause_s {self.longest_pause_s}; "
                "both must be above 0, the first not above the longest"
            )

    def key(self) -> str | None:
        """A new key for a picture that may have to be posted again; None if nothing is tried again."""
        return uuid.uuid4().hex if self.attempts > 1 else None

    def waiting(self, deadline_s: float) -> AsyncRetrying:
        """Attempts for a coroutine; the last one's Passing leaves it."""
        return AsyncRetrying(
            stop=self._stop(deadline_s),
            wait=self._wait(),
            retry=retry_if_exception_type(Passing),
            reraise=True,
        )

    def blocking(self, deadline_s: float) -> Retrying:
        """Attempts for a thread; the last one's Passing leaves it."""
        return Retrying(
            stop=self._stop(deadline_s),
            wait=self._wait(),
            retry=retry_if_exception_type(Passing),
            reraise=True,
        )

    def _stop(self, deadline_s: float) -> stop_base:
        return stop_after_attempt(self.attempts) | stop_before_delay(deadline_s)

    def _wait(self) -> wait_base:
        return _AtLeastAsAsked(wait_random_exponential(self.first_pause_s, self.longest_pause_s))


class _AtLeastAsAsked(wait_base):
    def __init__(self, jitter: wait_base) -> None:
        self._jitter = jitter

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = error.retry_after_s if isinstance(error, Passing) else 0.0
        return max(self._jitter(retry_state), asked)

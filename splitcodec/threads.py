"""Threads that hang, in a driver or on a disk that is gone: a service ends in time without them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import sys
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

Value = TypeVar("Value")

LAST_PATIENCE_S: Final = 1.0
"""Seconds that work in a thread gets at the very end, when the grace of a service is used up."""


def shut(threads: ThreadPoolExecutor, work: Iterable[Future[Any]], patience_s: float) -> None:
    """Drop the work that waits, and give what runs patience_s seconds to end; blocks until then.

    work: what was submitted and may still run. A thread that hangs is left to itself; see
    `ending_without_hung_threads`.
    """
    threads.shutdown(wait=False, cancel_futures=True)
    running = [future for future in work if not future.done()]
    _, hung = concurrent.futures.wait(running, patience_s)
    if hung:
        log.error("work in a thread still runs after %g s; the service ends without it", patience_s)


def ended(threads: ThreadPoolExecutor, patience_s: float) -> bool:
    """Drop the work that waits; whether every thread ended within patience_s seconds. Blocks until then."""
    waiter = threading.Thread(target=threads.shutdown, kwargs={"cancel_futures": True}, daemon=True)
    waiter.start()
    waiter.join(max(0.0, patience_s))
    return not waiter.is_alive()


class LeavingThreads(ThreadPoolExecutor):
    """For asyncio.to_thread: `asyncio.run` waits for its threads at the end, for ever if one hangs; not for
    these."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of every executor, but it waits LAST_PATIENCE_S at most."""
        closing = super().shutdown
        if not wait:
            closing(wait=False, cancel_futures=cancel_futures)
            return
        waiter = threading.Thread(target=closing, kwargs={"cancel_futures": cancel_futures}, daemon=True)
        waiter.start()
        waiter.join(LAST_PATIENCE_S)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Value]) -> Value | None:
    """What `work` returns or raises; None as soon as `stop` is set, and `work` is cancelled."""
    running, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        running.cancel()
        stopping.cancel()


@contextmanager
def ending_without_hung_threads() -> Iterator[None]:
    """Ends the process after its body, if a thread that began in it does not end within LAST_PATIENCE_S.

    Python itself would wait for that thread for ever. The exit status is the one it would have been.
    """
    before = set(threading.enumerate())
    status = 0
    try:
        yield
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
        raise
    except BaseException:
        status = 1
        raise
    finally:
        hung = _hung(before)
        if hung:
            log.error("threads that hang: %s; the process ends without them", ", ".join(hung))
            if status == 1:
                log.error("it ended with", exc_info=True)
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _hung(before: set[threading.Thread]) -> list[str]:
    """Names of the threads that Python would wait for and that are not in `before`, after a last patience."""
    new = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    end = time.monotonic() + LAST_PATIENCE_S
    for thread in new:
        thread.join(max(0.0, end - time.monotonic()))
    return sorted(thread.name for thread in new if thread.is_alive())

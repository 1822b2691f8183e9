"""On PYTHONPATH of a service under test: its wall clock is off by the seconds in the file CHAOS_CLOCK."""

import contextlib
import os
import time

_path = os.environ.get("CHAOS_CLOCK", "")
_time, _time_ns = time.time, time.time_ns


def _offset() -> float:
    with contextlib.suppress(OSError, ValueError), open(_path, encoding="ascii") as file:
        return float(file.read() or 0)
    return 0.0


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1e9)

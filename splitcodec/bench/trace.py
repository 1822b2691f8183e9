"""A link's bandwidth over time, from a CSV file, and a frame's way through it."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitcodec.errors import DatasetError

SHIPPED: Final = Path(__file__).parent / "traces"
HEADINGS: Final = ["seconds", "kbps"]
MAX_KBPS: Final = 1e7


@dataclass(frozen=True)
class Trace:
    """From starts[i] on, in seconds, the link carries bits_per_second[i]; the last value holds for ever."""

    name: str
    starts: tuple[float, ...]
    bits_per_second: tuple[float, ...]

    def at(self, second: float) -> float:
        """Bits per second at that time."""
        return self.bits_per_second[bisect.bisect_right(self.starts, second) - 1]

    def least(self, begin: float, end: float) -> float:
        """The lowest bitrate between two times."""
        inside = [
            bps for start, bps in zip(self.starts, self.bits_per_second, strict=True) if begin < start < end
        ]
        return min([self.at(begin), *inside])

    def finish(self, begin: float, bits: float) -> float:
        """When a link that has nothing else to do has sent so many bits; infinite if it never will."""
        now = begin
        for end in [*(start for start in self.starts if start > begin), math.inf]:
            bps = self.at(now)
            if bps > 0 and now + bits / bps <= end:
                return now + bits / bps
            bits -= bps * (end - now) if bps > 0 else 0.0
            now = end
        return math.inf


def read_trace(place: str) -> Trace:
    """A trace by the name of a shipped one, or from a file with the heading and seconds that rise from 0.

    DatasetError: not there, or malformed.
    """
    shipped = SHIPPED / f"{place}.csv"
    path = shipped if shipped.is_file() else Path(place)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            heading, *rows = list(csv.reader(file))
        pairs = [(float(seconds), float(kbps)) for seconds, kbps in rows]
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.csv")))
        raise DatasetError(
            f"trace {place} cannot be read ({error}); give a CSV file of {','.join(HEADINGS)}, or {known}"
        ) from error
    starts = [seconds for seconds, _ in pairs]
    sound = starts and starts[0] == 0 and all(a < b for a, b in itertools.pairwise(starts))
    if heading != HEADINGS or not sound or not all(0 <= kbps <= MAX_KBPS for _, kbps in pairs):
        raise DatasetError(
            f"trace {place} needs the heading {','.join(HEADINGS)}, seconds that rise from 0, and kbps "
            f"from 0 to {MAX_KBPS:.0f}; correct the file"
        )
    return Trace(path.stem, tuple(starts), tuple(1000 * kbps for _, kbps in pairs))

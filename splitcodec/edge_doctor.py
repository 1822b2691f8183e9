"""What is wrong with a running edge, asked over HTTP: `splitcodec doctor --edge URL`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitcodec.checkup import Trouble
from splitcodec.client import Credentials, EdgeClient, Readiness, Retry
from splitcodec.doctor import tell
from splitcodec.errors import SplitcodecError

OLDEST_S: Final = 60.0  # a frame that waits longer while a stream is open is a trouble
CLOCK_S: Final = 2.0
DEADLINE_S: Final = 5.0


@dataclass(frozen=True)
class EdgeHealth:
    """What an edge says of itself, line by line, and what is wrong."""

    lines: tuple[str, ...]
    ok: bool


def examine_edge(url: str, ca: Path | None = None) -> EdgeHealth:
    """Ask an edge; raises nothing of its own. ca: PEM authorities of its certificate."""
    try:
        with EdgeClient(
            url, credentials=Credentials(ca=ca), deadline_s=DEADLINE_S, retry=Retry(attempts=1)
        ) as edge:
            ready = edge.ready()
    except SplitcodecError as error:
        return EdgeHealth((f"PROBLEM: {tell(error)}", "1 problems"), ok=False)
    found = [str(one) for one in troubles(ready)]
    end = f"{len(found)} problems" if found else "all is well"
    return EdgeHealth((*_told(url, ready), *(f"PROBLEM: {one}" for one in found), end), ok=not found)


def troubles(ready: Readiness) -> Iterator[Trouble]:
    """What an operator should do something about."""
    cloud, spool, offset = ready.cloud, ready.spool, ready.cloud.clock_offset_s
    if not ready.ready:
        yield Trouble("the edge takes no frames", "it is stopping; look at its log")
    if cloud.note:
        yield Trouble(f"no frames flow to {cloud.target}: {cloud.note}", "look at the link and at the cloud")
    if spool.note:
        yield Trouble(spool.note, "look at the disk of the edge")
    if spool.oldest_s > OLDEST_S and not cloud.note:
        yield Trouble(
            f"a frame waits for {spool.oldest_s:,.0f} s though the link is up",
            "compare the packs of edge and cloud, lower the target_kbps, or widen the link",
        )
    if offset is not None and abs(offset) > CLOCK_S:
        yield Trouble(
            f"the cloud's clock is {offset:+,.1f} s off the edge's",
            "set the wrong one, and let systemd-timesyncd or chrony keep it",
        )


def _told(url: str, ready: Readiness) -> tuple[str, ...]:
    cloud, spool, offset = ready.cloud, ready.spool, ready.cloud.clock_offset_s
    return (
        f"edge: {url}, device {ready.device}, pack {ready.pack}, tasks {', '.join(ready.tasks)}",
        f"link: {cloud.state} to {cloud.target}, {'no frames flow' if cloud.note else 'frames flow'}",
        f"last error of the link: {cloud.last_error or 'none'}",
        f"clock of the cloud: {'not known' if offset is None else f'{offset:+.3f} s'} against the edge's",
        f"spool: {spool.frames} frames, {spool.num_bytes} bytes, the oldest waits for {spool.oldest_s:.1f} s",
    )

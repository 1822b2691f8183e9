"""How long a whole edge takes to start on a long backlog, and how much memory it has then."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.spool_file import SPOOL_FILE
from splitcodec.errors import RuntimeUnavailable
from splitcodec.launch import start_service

STARTS: Final = 3
NO_CLOUD: Final = "127.0.0.1:1"


@dataclass(frozen=True)
class Start:
    """frames: in the spool; seconds: from the start of the process until it listened, the slowest of STARTS;
    resident_bytes: in RAM then, the most of them."""

    frames: int
    seconds: float
    resident_bytes: int


def starts(spool: Path, frames: int, pack: str) -> tuple[Start, Start]:
    """On an empty spool, and on a copy of this file and its log as a power cut would leave them.

    Nobody writes to it meanwhile. RuntimeUnavailable: an edge did not start, or has other frames.
    """
    with tempfile.TemporaryDirectory(dir=spool.parent) as place:
        folder = Path(place)
        empty = _start(folder, pack, 0)
        for part in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(spool.with_name(spool.name + part), folder / "state" / (SPOOL_FILE + part))
        return empty, _start(folder, pack, frames)


def _start(folder: Path, pack: str, frames: int) -> Start:
    state = folder / "state"
    flags = [
        f"--pack={pack}",
        f"--state-dir={state}",
        f"--cloud-target={NO_CLOUD}",
        "--no-follow-cloud-prompts",
    ]
    seconds, resident = 0.0, 0
    for _ in range(STARTS):
        _drop_from_cache(state)
        with start_service("edge", flags, folder) as edge:
            seconds = max(seconds, edge.start_s)
            resident = max(resident, edge.resident_bytes() or 0)
            found = _frames_of(edge.ports["http_port"])
        if found != frames:
            raise RuntimeUnavailable(f"an edge on {frames} frames found {found} of them; look at {folder}")
    return Start(frames, round(seconds, 2), resident)


def _frames_of(port: int) -> int:
    """What the edge says it has in its spool."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return int(json.loads(connection.getresponse().read())["spool"]["frames"])


def _drop_from_cache(folder: Path) -> None:
    """The files have to be read from the disk again, where the system can be told so."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob(SPOOL_FILE + "*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

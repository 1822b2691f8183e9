"""`splitcodec bench spool`: how many frames per second become durable on a disk, and what a backlog costs."""

from __future__ import annotations

import json as jsonlib
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from splitcodec.errors import RuntimeUnavailable
from splitcodec.provenance import run_origin

REPORT_VERSION = 1


def spool_command(
    folder: Annotated[
        Path | None, typer.Option(help="Folder on the disk to try; by default the temporary one.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to queue.")] = 100_000,
    frame_bytes: Annotated[int, typer.Option(min=1, max=2**22, help="Bytes of each.")] = 4096,
    writers: Annotated[int, typer.Option(min=1, max=1000, help="Clients that wait at once.")] = 16,
    pack: Annotated[str, typer.Option(help="Pack of the edges that start on the backlog.")] = "default",
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Queue frames durably as in an outage, then drain them: frames per second, commit time, memory, and how
    long an edge takes to start on them."""
    place = Path(tempfile.gettempdir()) if folder is None else folder
    flags = [f"--frames={frames}", f"--frame-bytes={frame_bytes}", f"--writers={writers}"]
    flags.append(f"--pack={pack if pack == 'default' else Path(pack).resolve()}")
    # In a process of its own, so that the memory is that of the edge's parts and nothing else's.
    done = subprocess.run(
        [sys.executable, "-m", "edge.spool_bench", f"--folder={place}", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeUnavailable(
            f"the spool could not be measured in {place}: {said[0]}; choose another --folder"
        )
    figures = jsonlib.loads(done.stdout)
    report = {"report_version": REPORT_VERSION, "provenance": asdict(run_origin()), "figures": figures}
    text = jsonlib.dumps(report, indent=2)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(text + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(figures)))


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures as text."""
    empty, full = figures["starts"]
    return [
        f"in   {figures['in_per_second']:.0f} durable frames per second of {figures['frame_bytes']} bytes, "
        f"{figures['writers']} at once; on disk after {figures['commit_ms_median']:.1f} ms, "
        f"p99 {figures['commit_ms_p99']:.1f} ms, {figures['frames_per_commit']:.1f} frames per commit",
        f"out  {figures['out_per_second']:.0f} frames per second, {figures['out_of_order']} out of order",
        f"memory grew by {figures['growth_bytes'] / 1e6:.1f} MB with {figures['frames']} frames on disk "
        f"({figures['disk_bytes'] / 1e6:.0f} MB)",
        f"an edge starts in {full['seconds']:.1f} s on them, in {empty['seconds']:.1f} s on none",
        f"memory then {full['resident_bytes'] / 1e6:.0f} MB, {empty['resident_bytes'] / 1e6:.0f} MB on none",
    ]

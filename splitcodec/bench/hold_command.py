"""`splitcodec bench hold`: what it costs an edge to find out which cells to hold, and what it saves.

A photo that stands still, with noise as of a camera and a patch that moves over it. Each frame is coded by
itself and as the next one of a chain, in turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from splitcodec.codec import FeatureEncoder
from splitcodec.frame import read_picture, to_canvas
from splitcodec.packs import Pack, load_pack
from splitcodec.provenance import RunOrigin, run_origin
from splitcodec.sample_photos import packaged_photos

REPORT_VERSION: Final = 1
PATCH: Final = 64  # pixels on a side
STEP: Final = 12  # pixels it moves from frame to frame
NOISE: Final = 2  # grey levels, at most


@dataclass(frozen=True)
class HoldReport:
    """One run; milliseconds of the encoder, medians and 95 % quantiles; bytes and share of held cells: means.

    ratio: of the medians, a frame of a chain to a single one.
    """

    report_version: int
    command: str
    pack: str
    codec_digest: str
    task: str
    rate: float
    frames: int
    threads: int
    single_ms: float
    single_p95_ms: float
    chain_ms: float
    chain_p95_ms: float
    ratio: float
    single_bytes: float
    chain_bytes: float
    held: float
    provenance: RunOrigin


def hold_command(
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str, typer.Option(help="Task of the frames.")] = "detect",
    rate: Annotated[float, typer.Option(min=0, help="Rate of the frames.")] = 1.0,
    frames: Annotated[int, typer.Option(min=2, help="Frames of each kind.")] = 200,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each graph.")] = 2,
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Time frames that hold cells against single frames, of a scene that stands still but for a patch."""
    report = measure(load_pack(pack), task, rate, frames, threads)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{'frame':<10}{'median ms':>10}{'p95 ms':>8}{'bytes':>8}")
    for name in ("single", "chain"):
        median, p95, size = (getattr(report, f"{name}_{what}") for what in ("ms", "p95_ms", "bytes"))
        typer.echo(f"{name:<10}{median:>10.2f}{p95:>8.2f}{size:>8.0f}")
    typer.echo(f"a frame of a chain takes {report.ratio:.2f} times as long; {report.held:.0%} of it is held")


def measure(pack: Pack, task: str, rate: float, frames: int, threads: int) -> HoldReport:
    """SettingsError: the pack cannot hold cells. UnknownTask, RateOutOfRange."""
    pack.check_holds()
    prompt, convention = pack.prompt(task), pack.task(task).input
    encoder = FeatureEncoder(pack, "auto", threads)
    single_s, chain_s, sizes, shares = [], [], [], []
    state = None
    for picture in scene(frames + 1):
        canvas = to_canvas(picture, convention)
        started = time.perf_counter()
        single = encoder.compress(
            canvas.pixels, prompt, rate, (canvas.source_height, canvas.source_width), chain=True
        )
        between = time.perf_counter()
        if state is None:  # the key frame, which also warms everything up
            state = single.state
            continue
        linked = encoder.compress_held(canvas.pixels, state)
        ended = time.perf_counter()
        state = linked.state
        single_s.append(between - started)
        chain_s.append(ended - between)
        sizes.append((single.num_bytes, linked.num_bytes))
        shares.append(linked.held)
    one, two = 1e3 * np.array(single_s), 1e3 * np.array(chain_s)
    single_bytes, chain_bytes = np.mean(sizes, axis=0)
    return HoldReport(
        report_version=REPORT_VERSION,
        command=f"splitcodec bench hold --task {task} --rate {rate:g} --frames {frames} --threads {threads}",
        pack=pack.name,
        codec_digest=pack.codec_digest,
        task=task,
        rate=rate,
        frames=frames,
        threads=threads,
        single_ms=round(float(np.median(one)), 3),
        single_p95_ms=round(float(np.quantile(one, 0.95)), 3),
        chain_ms=round(float(np.median(two)), 3),
        chain_p95_ms=round(float(np.quantile(two, 0.95)), 3),
        ratio=round(float(np.median(two) / np.median(one)), 3),
        single_bytes=round(float(single_bytes), 1),
        chain_bytes=round(float(chain_bytes), 1),
        held=round(float(np.mean(shares)), 3),
        provenance=run_origin(),
    )


def scene(count: int) -> Iterator[NDArray[np.uint8]]:
    """A photo, uint8 [h, w, 3], with noise, over which a bright patch moves; the same every time."""
    photo = read_picture(packaged_photos()[0].read_bytes())
    height, width = photo.shape[:2]
    dice = np.random.default_rng(0)
    for step in range(count):
        seen = photo.astype(np.int16) + dice.integers(-NOISE, NOISE + 1, photo.shape, dtype=np.int16)
        left, top = STEP * step % (width - PATCH), (height - PATCH) // 2
        seen[top : top + PATCH, left : left + PATCH] = 230
        yield np.clip(seen, 0, 255).astype(np.uint8)

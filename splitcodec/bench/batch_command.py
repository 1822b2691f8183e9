"""`splitcodec bench batches`: does it pay to decode frames of different prompts in one run of the graph?"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from splitcodec.codec.held import nothing_held
from splitcodec.extras import needing
from splitcodec.packs import Pack, load_pack
from splitcodec.provenance import RunOrigin, run_origin
from splitcodec.runtime import Session, open_session

REPORT_VERSION: Final = 1
SIZES: Final = (2, 4, 8)

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class BatchRow:
    """Milliseconds per frame, medians. cpu: of all threads; differs: largest difference from frames alone."""

    kind: str
    frames: int
    cpu_ms: float
    wall_ms: float
    differs: float


@dataclass(frozen=True)
class BatchReport:
    """One run: frames of `height` x `width` pixels through the decoder graph on so many threads."""

    report_version: int
    pack: str
    codec_digest: str
    engine: str
    threads: int
    height: int
    width: int
    provenance: RunOrigin
    rows: Sequence[BatchRow]


def batches_command(
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the graph.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each kind; the median counts.")] = 25,
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Time the decoder on frames alone, in batches of one prompt, and in batches with a prompt per frame."""
    with needing("train"):
        import splitcodec.bench.stacked  # noqa: F401  # only to say at once what is missing
    loaded = load_pack(pack)
    report = measure(loaded, threads, repeats)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{'kind':<20}{'frames':>8}{'CPU ms/frame':>14}{'wall ms/frame':>15}{'differs':>10}")
    for row in report.rows:
        typer.echo(
            f"{row.kind:<20}{row.frames:>8}{row.cpu_ms:>14.2f}{row.wall_ms:>15.2f}{row.differs:>10.1e}"
        )


def measure(pack: Pack, threads: int, repeats: int) -> BatchReport:
    """The canvas is the largest of the pack's first task: frames of one batch must have one size."""
    from splitcodec.bench.stacked import stacked_decoder, stacked_inputs

    convention = pack.task(pack.tasks[0]).input
    plain = open_session(pack.graph_bytes("decoder"), "ort-cpu", threads, name="decoder")
    prompts = list(islice(cycle(pack.prompts.values()), max(SIZES)))
    frames = _frames(pack, convention.height, convention.width, max(SIZES))
    each = [{**_rows(frames, n, n + 1), **prompt.graph_inputs("decoder")} for n, prompt in enumerate(prompts)]
    alone = [plain.run(feed)["feature"] for feed in each]
    rows = [_row("alone", plain, each[0], 1, repeats, alone[:1])]
    for size in SIZES:
        own = {**_rows(frames, 0, size), **prompts[0].graph_inputs("decoder")}
        same = [plain.run({**each[n], **prompts[0].graph_inputs("decoder")})["feature"] for n in range(size)]
        rows.append(_row("one prompt", plain, own, size, repeats, same))
        stacked = open_session(stacked_decoder(pack, size), "ort-cpu", threads, name="stacked")
        mixed = {**_rows(frames, 0, size), **stacked_inputs(pack, prompts[:size])}
        rows.append(_row("a prompt per frame", stacked, mixed, size, repeats, alone[:size]))
    return BatchReport(
        REPORT_VERSION,
        pack.name,
        pack.codec_digest,
        plain.engine,
        threads,
        convention.height,
        convention.width,
        run_origin(),
        rows,
    )


def _row(
    kind: str, session: Session, feed: Feed, frames: int, repeats: int, alone: Sequence[NDArray[Any]]
) -> BatchRow:
    found = session.run(feed)["feature"]
    differs = float(np.abs(found - np.concatenate(alone)).max())
    cpu, wall = [], []
    for _ in range(repeats):
        cpu_before, before = time.process_time(), time.perf_counter()
        session.run(feed)
        cpu.append(time.process_time() - cpu_before)
        wall.append(time.perf_counter() - before)
    cpu_ms, wall_ms = (round(1000 * float(np.median(values)) / frames, 3) for values in (cpu, wall))
    return BatchRow(kind, frames, cpu_ms, wall_ms, differs)


def _frames(pack: Pack, height: int, width: int, count: int) -> Feed:
    """Small random symbols, as a decoder would see them."""
    codec, dice = pack.manifest.codec, np.random.default_rng(0)
    h, w = height // 16, width // 16
    y = dice.integers(-3, 4, (count, codec.latent_channels, h, w))
    z = dice.integers(-2, 3, (count, codec.hyper_channels, -(-h // 4), -(-w // 4)))
    held = nothing_held(y.shape) if pack.holds else {}
    return {
        **held,
        "symbols": y.astype(np.float32),
        "z_symbols": z.astype(np.float32),
        "gain_z_inv": np.ones((count, codec.hyper_channels, 1, 1), np.float32),
        "gain_y_inv": np.ones((count, codec.latent_channels, 1, 1), np.float32),
    }


def _rows(frames: Feed, start: int, end: int) -> Feed:
    return {name: array[start:end] for name, array in frames.items()}

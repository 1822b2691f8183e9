"""`splitcodec bench sizing`: frames per second of a core on each side, bytes of a camera, at each rate."""

import dataclasses
import json as jsonlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from splitcodec.bench.photos import read_photos
from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.frame import read_canvas
from splitcodec.packs import Pack, load_pack
from splitcodec.packs.schema import TAIL_INPUT
from splitcodec.picture import PICTURE_FILES
from splitcodec.prompts import Prompt
from splitcodec.provenance import RunOrigin, run_origin
from splitcodec.runtime import Session, open_session
from splitcodec.sample_photos import packaged_photos

REPORT_VERSION = 1
MAX_PHOTOS = 50
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class SizingRow:
    """One rate point of one task; per second and core; bytes: mean of a frame, and of a day at 1 frame/s."""

    task: str
    rate: float
    edge_frames_per_s: float
    cloud_frames_per_s: float
    bytes_per_frame: float
    bytes_per_camera_day: float


@dataclass(frozen=True)
class SizingReport:
    """One run."""

    report_version: int
    command: str
    pack: str
    codec_digest: str
    photos: int
    provenance: RunOrigin
    rows: Sequence[SizingRow]


@dataclass(frozen=True)
class _Sides:
    """Both halves of a pack, with one thread each."""

    encoder: FeatureEncoder
    decoder: FeatureDecoder
    tails: dict[str, Session]


def sizing_command(
    data: Annotated[
        Path | None, typer.Option(help="Photos: a tar or a folder; by default scikit-image's.")
    ] = None,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    frames: Annotated[int, typer.Option(min=1, help="Frames at each rate point of each task.")] = 60,
    engine: Annotated[str, typer.Option(help="Inference engine.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Measure what a core does at each rate, picture decoding included, services left out."""
    loaded = load_pack(pack)
    photos = _sample()
    if data is not None:
        photos = [(photo.data, photo.content_type) for photo in read_photos(data, MAX_PHOTOS)]
    sides = _Sides(
        FeatureEncoder(loaded, engine=engine),
        FeatureDecoder(loaded, engine=engine),
        {task: open_session(loaded.tail_bytes(task), engine=engine, threads=1) for task in loaded.tasks},
    )
    points = loaded.manifest.codec.rate_points
    total = len(loaded.tasks) * points * frames
    with typer.progressbar(length=total, label="frames", file=typer.get_text_stream("stderr")) as bar:
        rows = [
            _measure(loaded, sides, task, rate, photos, frames, lambda: bar.update(1))
            for task in loaded.tasks
            for rate in range(points)
        ]
    report = SizingReport(
        REPORT_VERSION,
        f"splitcodec bench sizing --frames {frames}" + (f" --data {data.name}" if data else ""),
        loaded.name,
        loaded.codec_digest,
        len(photos),
        run_origin(),
        rows,
    )
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(report)))


def lines(report: SizingReport) -> list[str]:
    """The report as text."""
    text = [f"{'task':<12}{'rate':>6}{'edge frames/s':>15}{'cloud frames/s':>16}{'B/frame':>10}{'MB/day':>9}"]
    return text + [
        f"{row.task:<12}{row.rate:>6g}{row.edge_frames_per_s:>15.1f}{row.cloud_frames_per_s:>16.1f}"
        f"{row.bytes_per_frame:>10.0f}{row.bytes_per_camera_day / 1e6:>9.0f}"
        for row in report.rows
    ]


def _measure(
    pack: Pack,
    sides: _Sides,
    task: str,
    rate: int,
    photos: Sequence[tuple[bytes, str]],
    frames: int,
    advance: Callable[[], None],
) -> SizingRow:
    prompt = pack.prompt(task)
    _answer(sides, task, _encode(pack, sides, prompt, rate, photos[0]))  # the first run is slower
    times: list[tuple[float, float, int]] = []
    for number in range(frames):
        started = time.perf_counter()
        bitstream = _encode(pack, sides, prompt, rate, photos[number % len(photos)])
        between = time.perf_counter()
        _answer(sides, task, bitstream)
        times.append((between - started, time.perf_counter() - between, len(bitstream)))
        advance()
    edge, cloud, size = (float(value) for value in np.mean(times, axis=0))
    return SizingRow(
        task,
        float(rate),
        round(1 / edge, 2),
        round(1 / cloud, 2),
        round(size, 1),
        round(size * SECONDS_PER_DAY),
    )


def _encode(pack: Pack, sides: _Sides, prompt: Prompt, rate: int, photo: tuple[bytes, str]) -> bytes:
    canvas = read_canvas(*photo, pack.task(prompt.task).input)
    size = (canvas.source_height, canvas.source_width)
    return sides.encoder.compress(canvas.pixels, prompt, float(rate), size).data


def _answer(sides: _Sides, task: str, bitstream: bytes) -> None:
    sides.tails[task].run({TAIL_INPUT: sides.decoder.decompress(bitstream).feature})


def _sample() -> list[tuple[bytes, str]]:
    return [(path.read_bytes(), PICTURE_FILES[path.suffix]) for path in packaged_photos()]

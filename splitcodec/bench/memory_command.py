"""`splitcodec bench memory`: does the memory of the services end growing?

Frames go one after the other over one connection. What the services keep is bounded (the edge's newest
frames and their pictures, SQLite's page caches, the allocator's free lists) and fills within the first
thousands; from then on resident memory has to stay, and a least-squares line through it has to be flat within
its standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json as jsonlib
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from PIL import Image

from splitcodec.bench.latency import EdgeConnection, MemorySample, sample_memory
from splitcodec.bench.photos import PostedPhoto, read_photos
from splitcodec.launch import Service, Services, running_services
from splitcodec.packs import load_pack
from splitcodec.provenance import RunOrigin, run_origin
from splitcodec.sample_photos import packaged_photos

REPORT_VERSION: Final = 1
MAX_PHOTOS: Final = 200
SAMPLES: Final = 200
JPEG_QUALITY: Final = 85  # of Pillow's scale; what cameras use
MIN_LINE_SAMPLES: Final = 3  # below it a line through the samples has no error


@dataclass(frozen=True)
class MemoryTrend:
    """Resident bytes of one service. None where the system does not tell, or too few frames were posted.

    resident: after the last frame; peak: the most there ever was; slope: bytes gained per 1,000 frames, and
    slope_error its standard error; lowest and highest: of the samples that the line goes through.
    """

    resident: int | None
    peak: int | None
    slope: float | None
    slope_error: float | None
    lowest: int | None
    highest: int | None


@dataclass(frozen=True)
class MemoryReport:
    """One run; settled_from: the frame at which the lines of both trends begin; seconds: of all frames."""

    report_version: int
    command: str
    pack: str
    codec_digest: str
    task: str
    photos: int
    frames: int
    settled_from: int
    seconds: float
    provenance: RunOrigin
    edge: MemoryTrend
    cloud: MemoryTrend
    samples: Sequence[MemorySample]


def memory_command(
    data: Annotated[
        Path | None, typer.Option(help="Photos to post: a tar or a folder; by default scikit-image's.")
    ] = None,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str | None, typer.Option(help="Task of the frames; by default the pack's first.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to post.")] = 50_000,
    settled_from: Annotated[int, typer.Option(min=0, help="Frame from which on memory is to stay.")] = 5_000,
    engine: Annotated[str, typer.Option(help="Inference engine of both services.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Post frames one after the other and draw a line through the resident memory of both services."""
    loaded = load_pack(pack)
    chosen = loaded.prompt(task or loaded.tasks[0]).task
    photos = sample_jpegs() if data is None else read_photos(data, MAX_PHOTOS)
    started_from, options = run_origin(), ["--task", chosen, "--frames", str(frames)]
    options += ["--settled-from", str(settled_from)]
    options += ["--data", data.name] if data is not None else []
    options += ["--pack", Path(pack).name] if pack != "default" else []
    with (
        tempfile.TemporaryDirectory(prefix="splitcodec-bench-") as folder,
        running_services(Path(folder), pack, engine, [f"--task={chosen}"]) as services,
        typer.progressbar(length=frames, label="frames", file=typer.get_text_stream("stderr")) as bar,
    ):
        started = time.monotonic()
        samples = post_and_sample(services, photos, frames, lambda: bar.update(1))
        report = MemoryReport(
            report_version=REPORT_VERSION,
            command=shlex.join(["splitcodec", "bench", "memory", *options]),
            pack=loaded.name,
            codec_digest=loaded.codec_digest,
            task=chosen,
            photos=len(photos),
            frames=frames,
            settled_from=settled_from,
            seconds=round(time.monotonic() - started, 1),
            provenance=started_from,
            edge=_trend(services.edge, [(one.frames, one.edge_bytes) for one in samples], settled_from),
            cloud=_trend(services.cloud, [(one.frames, one.cloud_bytes) for one in samples], settled_from),
            samples=samples,
        )
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(report)))


def sample_jpegs() -> list[PostedPhoto]:
    """The packaged photos as a camera would send them, as JPEG."""
    posted = []
    for path in packaged_photos():
        buffer = io.BytesIO()
        with Image.open(path) as picture:
            picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
        posted.append(PostedPhoto(path.name, "image/jpeg", buffer.getvalue()))
    return posted


def post_and_sample(
    services: Services, photos: Sequence[PostedPhoto], frames: int, advance: Callable[[], None]
) -> list[MemorySample]:
    """Post frames one after the other, round and round through the photos; at most SAMPLES even samples."""
    samples = []
    every = -(-frames // SAMPLES)
    with contextlib.closing(EdgeConnection(services.edge.ports["http_port"], None)) as edge:
        for number in range(frames):
            edge.post(photos[number % len(photos)])
            if (number + 1) % every == 0:
                samples.append(sample_memory(services, number + 1))
            advance()
    return samples


def slope_per_1000(samples: Sequence[tuple[int, int]]) -> tuple[float, float] | None:
    """Least-squares slope of (frames, bytes) in bytes per 1,000 frames, and its standard error.

    None for fewer than MIN_LINE_SAMPLES samples.
    """
    if len(samples) < MIN_LINE_SAMPLES:
        return None
    counts, sizes = np.array(samples, dtype=np.float64).T
    counts, sizes = counts - counts.mean(), sizes - sizes.mean()
    spread = float(counts @ counts)
    slope = float(counts @ sizes) / spread
    left = sizes - slope * counts
    error = float(np.sqrt(left @ left / (len(samples) - 2) / spread))
    return 1000 * slope, 1000 * error


def lines(report: MemoryReport) -> list[str]:
    """The report as text."""
    text = [
        f"{report.frames} frames of {report.task} in {report.seconds:.0f} s; "
        f"resident memory from frame {report.settled_from} on"
    ]
    for name, trend in (("edge", report.edge), ("cloud", report.cloud)):
        if trend.slope is None or trend.slope_error is None:
            text.append(f"{name}: unknown; post more frames than --settled-from, on a system with /proc")
            continue
        text.append(
            f"{name}: {trend.slope / 1000:+.2f} kB per 1,000 frames (standard error "
            f"{trend.slope_error / 1000:.2f}), between {_megabytes(trend.lowest)} and "
            f"{_megabytes(trend.highest)}, peak {_megabytes(trend.peak)}"
        )
    return text


def _trend(service: Service, samples: Sequence[tuple[int, int | None]], settled_from: int) -> MemoryTrend:
    known = [(count, size) for count, size in samples if count >= settled_from and size is not None]
    slope, error = slope_per_1000(known) or (None, None)
    sizes = [size for _, size in known]
    lowest, highest = (min(sizes), max(sizes)) if sizes else (None, None)
    return MemoryTrend(service.resident_bytes(), service.peak_bytes(), slope, error, lowest, highest)


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"

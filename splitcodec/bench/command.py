"""`splitcodec bench`: what the services cost in time and memory on this machine."""

import dataclasses
import json as jsonlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from splitcodec.bench.batch_command import batches_command
from splitcodec.bench.hold_command import hold_command
from splitcodec.bench.latency import (
    GRAPHS,
    WAITING,
    Latency,
    MemorySample,
    growth_per_1000,
    post_frames,
    summarize,
)
from splitcodec.bench.memory_command import memory_command
from splitcodec.bench.photos import PostedPhoto, read_photos
from splitcodec.bench.rate_command import rate_control_command
from splitcodec.bench.serve_command import serve_command
from splitcodec.bench.sizing import sizing_command
from splitcodec.bench.spool_command import spool_command
from splitcodec.bench.swap_command import swap_command
from splitcodec.launch import Services, running_services
from splitcodec.packs import Pack, load_pack
from splitcodec.provenance import RunOrigin, run_origin

REPORT_VERSION = 1
MAX_PHOTOS = 200

app = typer.Typer(no_args_is_help=True, help="Measure the services on this machine.")


@dataclass(frozen=True)
class ServiceCost:
    """Seconds from start to ready; memory in bytes: after the run, at its peak, gained per 1,000 frames."""

    start_s: float
    resident_bytes: int | None
    peak_bytes: int | None
    growth_per_1000_frames: float | None


@dataclass(frozen=True)
class BenchReport:
    """Everything one run of `splitcodec bench latency` found."""

    report_version: int
    command: str
    pack: str
    codec_digest: str
    data: str
    rate: float | None
    photos: int
    provenance: RunOrigin
    latency: Latency
    edge: ServiceCost
    cloud: ServiceCost
    memory: Sequence[MemorySample]
    graph_stages: Sequence[str]
    waiting_stages: Sequence[str]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, as given to `splitcodec bench latency`."""

    data: Path
    json: Path | None
    pack: str
    rate: float | None
    frames: int
    warmup: int
    cores: int
    engine: str


@app.callback()
def bench() -> None:
    """Measure the services on this machine."""


@app.command("latency")
def latency_command(
    data: Annotated[Path, typer.Option(help="Photos to post: a tar or a folder.")],
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    rate: Annotated[float | None, typer.Option(help="Rate point; by default the edge's own.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to measure.")] = 1000,
    warmup: Annotated[int, typer.Option(min=0, help="Frames before them that do not count.")] = 20,
    cores: Annotated[int, typer.Option(min=1, help="Cores for client, edge and cloud together.")] = 2,
    engine: Annotated[str, typer.Option(help="Inference engine of both services.")] = "auto",
) -> None:
    """Post photos one at a time to an edge and a cloud: time per stage, overhead, memory, start-up."""
    options = BenchOptions(data, json, pack, rate, frames, warmup, cores, engine)
    loaded = load_pack(pack)
    photos = read_photos(data, MAX_PHOTOS)
    pin_to_cores(cores)
    with (
        tempfile.TemporaryDirectory(prefix="splitcodec-bench-") as folder,
        running_services(Path(folder), pack, engine) as services,
        typer.progressbar(
            length=warmup + frames, label="frames", file=typer.get_text_stream("stderr")
        ) as bar,
    ):
        times, memory = post_frames(services, photos, frames, warmup, rate, lambda: bar.update(1))
        report = _report(options, loaded, photos, summarize(times), services, memory)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(report)))


app.command("hold")(hold_command)
app.command("memory")(memory_command)
app.command("rate-control")(rate_control_command)
app.command("spool")(spool_command)
app.command("serve")(serve_command)
app.command("sizing")(sizing_command)
app.command("swap")(swap_command)
app.command("batches")(batches_command)


def pin_to_cores(cores: int) -> None:
    """Keep this process, and those it starts, on so many of the cores it may use (where the system can)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def command_line(options: BenchOptions) -> str:
    """The command that measures this again, with file names instead of this machine's paths."""
    words = ["splitcodec", "bench", "latency", "--data", options.data.name, "--pack", Path(options.pack).name]
    words += ["--frames", str(options.frames), "--warmup", str(options.warmup)]
    words += ["--cores", str(options.cores), "--engine", options.engine]
    if options.rate is not None:
        words += ["--rate", f"{options.rate:g}"]
    if options.json is not None:
        words += ["--json", options.json.name]
    return shlex.join(words)


def lines(report: BenchReport) -> list[str]:
    """The report as text."""
    latency = report.latency
    rows = [*latency.stages.items(), ("edge, all stages", latency.edge), ("networks, both", latency.graphs)]
    rows += [("service overhead", latency.overhead), ("wall, client", latency.wall)]
    text = [f"{'stage':<20}{'median ms':>11}{'p95 ms':>10}"]
    text += [f"{name:<20}{value.median_ms:>11.2f}{value.p95_ms:>10.2f}" for name, value in rows]
    text.append(
        f"overhead {latency.overhead_share:.1%} of the networks, entropy coding {latency.entropy_share:.1%}"
        f" of the edge, {latency.bytes_per_frame:.0f} bytes per frame, {latency.frames} frames"
    )
    for name, cost in (("edge", report.edge), ("cloud", report.cloud)):
        grown = _megabytes(cost.growth_per_1000_frames)
        text.append(
            f"{name}: ready after {cost.start_s:.2f} s, resident {_megabytes(cost.resident_bytes)},"
            f" peak {_megabytes(cost.peak_bytes)}, growth per 1,000 frames {grown}"
        )
    return text


def _report(
    options: BenchOptions,
    pack: Pack,
    photos: Sequence[PostedPhoto],
    latency: Latency,
    services: Services,
    memory: Sequence[MemorySample],
) -> BenchReport:
    counts = [sample.frames for sample in memory]
    edge_growth = growth_per_1000(counts, [sample.edge_bytes for sample in memory])
    cloud_growth = growth_per_1000(counts, [sample.cloud_bytes for sample in memory])
    edge, cloud = services.edge, services.cloud
    return BenchReport(
        report_version=REPORT_VERSION,
        command=command_line(options),
        pack=pack.name,
        codec_digest=pack.codec_digest,
        data=options.data.name,
        rate=options.rate,
        photos=len(photos),
        provenance=run_origin(),
        latency=latency,
        edge=ServiceCost(round(edge.start_s, 3), edge.resident_bytes(), edge.peak_bytes(), edge_growth),
        cloud=ServiceCost(round(cloud.start_s, 3), cloud.resident_bytes(), cloud.peak_bytes(), cloud_growth),
        memory=memory,
        graph_stages=GRAPHS,
        waiting_stages=WAITING,
    )


def _megabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"

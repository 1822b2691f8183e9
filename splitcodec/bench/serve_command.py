"""`splitcodec bench serve`: one process, several, and Ray Serve, on the same frames and the same cores."""

import asyncio
import contextlib
import dataclasses
import json as jsonlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from splitcodec.bench.photos import PostedPhoto, read_photos
from splitcodec.bench.serve_load import COMPUTING, CallTimes, Load, encode_photos, quantile_ms, send
from splitcodec.launch import start_service
from splitcodec.packs import load_pack
from splitcodec.picture import PICTURE_FILES
from splitcodec.provenance import RunOrigin, run_origin, usable_cores
from splitcodec.sample_photos import packaged_photos

REPORT_VERSION = 1
MAX_PHOTOS = 50
WARMUP_FRAMES = 20
ALONE_SHARE = 4  # of `frames`, the quarter that is sent one at a time


@dataclass(frozen=True)
class Setup:
    """A way to serve: how many cloud processes, and their flags."""

    name: str
    processes: int
    flags: Sequence[str]


@dataclass(frozen=True)
class ServeFigures:
    """What one way of serving did. Throughput with all clients at once, overhead with one client alone.

    networks_ms: computing stages of one frame alone, median; overhead_ms: all else of its call, median;
    engine_ms: how much more that is than with one process; start_s: until it took frames.
    """

    name: str
    processes: int
    frames_per_s: float
    p50_ms: float
    p99_ms: float
    alone_p50_ms: float
    networks_ms: float
    overhead_ms: float
    engine_ms: float
    start_s: float


@dataclass(frozen=True)
class ServeReport:
    """One run; same_answers: every way gave byte for byte the same answers."""

    report_version: int
    command: str
    pack: str
    codec_digest: str
    clients: int
    frames: int
    bytes_per_frame: float
    same_answers: bool
    provenance: RunOrigin
    figures: Sequence[ServeFigures]


def serve_command(
    data: Annotated[
        Path | None, typer.Option(help="Photos to encode: a tar or a folder; by default scikit-image's.")
    ] = None,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    task: Annotated[str, typer.Option(help="Task of the pack.")] = "detect",
    rate: Annotated[float | None, typer.Option(help="Rate point; by default the middle.")] = None,
    frames: Annotated[int, typer.Option(min=4, help="Frames for each way of serving.")] = 400,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Calls on their way at once.")] = 8,
    copies: Annotated[int, typer.Option(min=1, max=64, help="Processes, or replicas on Ray.")] = 2,
    engine: Annotated[str, typer.Option(help="Inference engine of the services.")] = "auto",
    without_ray: Annotated[bool, typer.Option("--without-ray", help="Leave Ray Serve out.")] = False,
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Compare ways to serve the same networks: throughput, latency, and what each adds to a frame."""
    loaded = load_pack(pack)
    bitstreams = encode_photos(loaded, task, _photos(data), rate)
    ways = setups(copies, usable_cores(), with_ray=not without_ray)
    place = pack if pack == "default" else str(Path(pack).resolve())
    flags = [f"--packs={place}", f"--engine={engine}", "--metrics-port=0"]
    total = len(ways) * (WARMUP_FRAMES + frames + max(1, frames // ALONE_SHARE))
    runs = []
    with typer.progressbar(length=total, label="frames", file=typer.get_text_stream("stderr")) as bar:
        for way in ways:
            runs.append(_run(way, flags, bitstreams, frames, clients, lambda: bar.update(1)))
    overhead = quantile_ms([call.overhead for call in runs[0].alone.calls], 0.5)
    report = ServeReport(
        report_version=REPORT_VERSION,
        command=f"splitcodec bench serve --frames {frames} --clients {clients} --copies {copies}",
        pack=loaded.name,
        codec_digest=loaded.codec_digest,
        clients=clients,
        frames=frames,
        bytes_per_frame=sum(map(len, bitstreams)) / len(bitstreams),
        same_answers=len({frozenset(call.digest for call in _calls(run)) for run in runs}) == 1,
        provenance=run_origin(),
        figures=[figures(run, overhead) for run in runs],
    )
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(report)))


@dataclass(frozen=True)
class ServeRun:
    """A way to serve, its calls with one client and with all, and seconds until it took frames."""

    setup: Setup
    alone: Load
    together: Load
    start_s: float


def setups(copies: int, cores: int, *, with_ray: bool) -> list[Setup]:
    """The ways to compare; each may use all cores."""
    share = max(1, cores // copies)
    ways = [
        Setup("one process", 1, ("--workers=1", f"--threads={cores}")),
        Setup(f"{copies} worker threads", 1, (f"--workers={copies}", f"--threads={share}")),
        Setup(f"{copies} processes", copies, ("--workers=1", f"--threads={share}")),
    ]
    if with_ray:
        replicas = (f"--ray-replicas={copies}", f"--ray-max-replicas={copies}", f"--threads={share}")
        ways.append(Setup(f"Ray Serve, {copies} replicas", 1, ("--ray=local", "--ray-cpus=0.25", *replicas)))
    return ways


def figures(run: ServeRun, one_process_ms: float) -> ServeFigures:
    """Summary of a run; one_process_ms: the overhead of one process."""
    walls = [call.wall for call in run.together.calls]
    overhead = quantile_ms([call.overhead for call in run.alone.calls], 0.5)
    networks = [sum(call.stages.get(name, 0.0) for name in COMPUTING) for call in run.alone.calls]
    return ServeFigures(
        name=run.setup.name,
        processes=run.setup.processes,
        frames_per_s=round(len(walls) / run.together.seconds, 2),
        p50_ms=quantile_ms(walls, 0.5),
        p99_ms=quantile_ms(walls, 0.99),
        alone_p50_ms=quantile_ms([call.wall for call in run.alone.calls], 0.5),
        networks_ms=quantile_ms(networks, 0.5),
        overhead_ms=overhead,
        engine_ms=round(overhead - one_process_ms, 3),
        start_s=round(run.start_s, 2),
    )


def lines(report: ServeReport) -> list[str]:
    """The report as text."""
    heads = ("p50 ms", "p99 ms", "alone ms", "networks", "overhead", "engine")
    text = [f"{'':<24}{'frames/s':>9}" + "".join(f"{head:>10}" for head in heads)]
    text += [
        f"{row.name:<24}{row.frames_per_s:>9.1f}{row.p50_ms:>10.1f}{row.p99_ms:>10.1f}"
        f"{row.alone_p50_ms:>10.1f}{row.networks_ms:>10.1f}{row.overhead_ms:>10.1f}{row.engine_ms:>+10.1f}"
        for row in report.figures
    ]
    same = "the same answers byte for byte" if report.same_answers else "ANSWERS THAT DIFFER"
    return [*text, f"{report.clients} clients, {report.frames} frames each way, {same}"]


def _run(
    way: Setup,
    flags: Sequence[str],
    bitstreams: Sequence[bytes],
    frames: int,
    clients: int,
    advance: Callable[[], None],
) -> ServeRun:
    alone = max(1, frames // ALONE_SHARE)
    ends = (WARMUP_FRAMES, WARMUP_FRAMES + alone, WARMUP_FRAMES + alone + frames)

    async def warm_then_measure(ports: Sequence[int]) -> tuple[Load, Load]:
        await send(ports, bitstreams, range(ends[0]), 2 * len(ports), advance)
        one = await send(ports, bitstreams, range(ends[0], ends[1]), 1, advance)
        return one, await send(ports, bitstreams, range(ends[1], ends[2]), clients, advance)

    with _serving(way, flags) as (ports, start_s):
        one, many = asyncio.run(warm_then_measure(ports))
    return ServeRun(way, one, many, start_s)


@contextlib.contextmanager
def _serving(way: Setup, flags: Sequence[str]) -> Iterator[tuple[list[int], float]]:
    """The gRPC ports of so many cloud processes, and the seconds until the slowest listened."""
    with tempfile.TemporaryDirectory(prefix="splitcodec-bench-") as folder, contextlib.ExitStack() as stack:
        services = []
        for number in range(way.processes):
            place = Path(folder) / str(number)
            place.mkdir()
            own = [*flags, *way.flags, f"--data-dir={place / 'data'}"]
            services.append(stack.enter_context(start_service("cloud", own, place)))
        yield [one.ports["grpc_port"] for one in services], max(one.start_s for one in services)


def _calls(run: ServeRun) -> Sequence[CallTimes]:
    return [*run.alone.calls, *run.together.calls]


def _photos(data: Path | None) -> list[PostedPhoto]:
    """From `data`, or those of scikit-image."""
    if data is not None:
        return read_photos(data, MAX_PHOTOS)
    return [
        PostedPhoto(photo.name, PICTURE_FILES[photo.suffix.lower()], photo.read_bytes())
        for photo in packaged_photos()
    ]

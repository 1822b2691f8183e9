"""`splitcodec bench swap`: thousands of prompt swaps under frames of several cameras, and what they cost."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json as jsonlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from PIL import Image

from splitcodec.bench.latency import growth_per_1000
from splitcodec.bench.photos import PostedPhoto, read_photos
from splitcodec.bench.swap_check import Faults, Percentiles, drift, faults, percentiles, stored_numbers
from splitcodec.bench.swap_run import (
    SwapConnection,
    SwapRun,
    UsedPrompt,
    post_and_swap,
    post_without_swaps,
    run_alone,
)
from splitcodec.bench.swap_versions import bring, pack_prompts, versions
from splitcodec.launch import Services, running_services
from splitcodec.packs import Pack, load_pack
from splitcodec.provenance import RunOrigin, run_origin

REPORT_VERSION: Final = 2
MAX_BLOCKS: Final = 40
SWAPS_PER_BLOCK: Final = 50  # at least, but for the last
EDGE_FLAGS: Final = ("--deadline-s=60",)  # a frame that waits for the cloud is late, and never answered 202


@dataclass(frozen=True)
class Sample:
    """Both services after so many swaps; None where the system does not tell.

    cpu_seconds: used by both so far; cpu_ms_per_frame: by both, per frame of the block that ended here.
    """

    swaps: int
    edge_bytes: int | None
    cloud_bytes: int | None
    cpu_seconds: float | None
    cpu_ms_per_frame: float | None


@dataclass(frozen=True)
class SwapReport:
    """One run. Times in milliseconds.

    swap: from asking for a swap until it holds; frames, frames_without_swaps: the same load with and without
    them; stall_p50_ms, stall_p99_ms: the difference, which is what swaps cost a frame; latency_drift,
    cpu_drift: share by which frames took longer, or more CPU time, at the end; growth: resident bytes gained
    per 1,000 swaps over the last half; prompts: what cameras were swapped among;
    versions: names of the prompt packs that were brought along, none where the bench altered one itself.
    """

    report_version: int
    pack: str
    codec_digest: str
    prompts: Sequence[UsedPrompt]
    cameras: int
    swaps: int
    frames_answered: int
    seconds: float
    provenance: RunOrigin
    faults: Faults
    swap: Percentiles
    frames: Percentiles
    frames_without_swaps: Percentiles
    stall_p50_ms: float
    stall_p99_ms: float
    latency_drift: float
    cpu_drift: float | None
    edge_growth_per_1000_swaps: float | None
    cloud_growth_per_1000_swaps: float | None
    samples: Sequence[Sample]
    versions: Sequence[str] = ()


def swap_command(
    count: Annotated[int, typer.Option(min=1, help="Swaps.")] = 10_000,
    pack: Annotated[str, typer.Option(help="Pack folder or zip, or `default`.")] = "default",
    data: Annotated[
        Path | None, typer.Option(help="Photos to post: a tar or a folder; by default made-up ones.")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="Photos to post, in random order.")] = 6,
    cameras: Annotated[int, typer.Option(min=1, max=64, help="Cameras that post at once.")] = 4,
    version: Annotated[
        list[Path] | None,
        typer.Option(
            help="Prompt pack with a further version of a prompt, for which frames are swapped too; may be "
            "repeated. By default an altered copy of the first task's prompt."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="Inference engine of both services.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Report to write.")] = None,
) -> None:
    """Swap the prompts of cameras that post without a pause: the tasks of a pack, and two versions of one.

    Fails if any frame is mixed, lost or doubled.
    """
    loaded = load_pack(pack)
    pictures = made_up(photos) if data is None else read_photos(data, photos)
    with (
        tempfile.TemporaryDirectory(prefix="splitcodec-bench-") as folder,
        running_services(Path(folder), pack, engine, EDGE_FLAGS) as services,
        typer.progressbar(length=count, label="swaps", file=typer.get_text_stream("stderr")) as bar,
    ):
        further = versions(loaded, version or [], Path(folder))
        bring(services, further)
        prompts = [*pack_prompts(loaded), *(one.used for one in further)]
        report = measure(services, loaded, prompts, pictures, cameras, count, lambda: bar.update(1))
    report = dataclasses.replace(report, versions=[place.name for place in version or []])
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(jsonlib.dumps(dataclasses.asdict(report), indent=1) + "\n", encoding="utf-8")
    typer.echo("\n".join(lines(report)))
    if not report.faults.none:
        raise typer.Exit(1)


def measure(
    services: Services,
    pack: Pack,
    prompts: Sequence[UsedPrompt],
    pictures: Sequence[PostedPhoto],
    cameras: int,
    count: int,
    advance: Callable[[], None],
) -> SwapReport:
    """Frames alone; then, block by block, the same load without swaps and with them.

    Blocks take turns because a machine is not equally fast all the time.
    """
    port, names = services.edge.ports["http_port"], [f"camera-{number}" for number in range(cameras)]
    alone = run_alone(port, pictures, prompts, "alone")
    tasks = [one.task for one in prompts]  # as often as its versions
    steady_names = [f"steady-{name}" for name in names]
    blocks = min(MAX_BLOCKS, 1 + count // SWAPS_PER_BLOCK)
    run, steady, samples = SwapRun(), [], []
    for block in range(blocks):
        steady += post_without_swaps(port, pictures, steady_names, tasks, max(20, count // (4 * blocks)))
        before = _sample(services, len(run.counted), 0)
        share = count * (block + 1) // blocks - len(run.counted)
        frames = sum(map(len, run.answers.values()))
        post_and_swap(run, port, pictures, names, prompts, share, advance)
        frames = sum(map(len, run.answers.values())) - frames
        samples.append(_sample(services, len(run.counted), frames, before))
    with contextlib.closing(SwapConnection(port)) as client:
        device = client.device()
    stored = stored_numbers(f"127.0.0.1:{services.cloud.ports['grpc_port']}", device, names)
    return _report(pack, prompts, run, faults(run, alone, stored), [one.seconds for one in steady], samples)


def _sample(services: Services, swaps: int, frames: int, before: Sample | None = None) -> Sample:
    """Both services now; their CPU time per frame since `before`."""
    used = [service.cpu_seconds() for service in (services.edge, services.cloud)]
    total = None if None in used else sum(filter(None, used))
    since = None if before is None or total is None or not frames else total - (before.cpu_seconds or 0.0)
    memory = (services.edge.resident_bytes(), services.cloud.resident_bytes())
    per_frame = None if since is None else round(1000 * since / frames, 4)
    return Sample(swaps, *memory, total, per_frame)


def made_up(count: int) -> list[PostedPhoto]:
    """Smooth random pictures of 640x480, as JPEG, the same every time."""
    dice, made = np.random.default_rng(0), []
    for number in range(count):
        small = Image.fromarray(dice.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        made.append(PostedPhoto(f"made-up-{number}.jpg", "image/jpeg", buffer.getvalue()))
    return made


def lines(report: SwapReport) -> list[str]:
    """The report as text."""
    found, text = report.faults, [f"{'':<24}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}"]
    rows = (
        ("swap", report.swap),
        ("frames", report.frames),
        ("frames without swaps", report.frames_without_swaps),
    )
    text += [f"{name:<24}{one.p50_ms:>10.2f}{one.p99_ms:>10.2f}{one.max_ms:>10.2f}" for name, one in rows]
    names = [f"{one.task} {one.prompt}" for one in report.prompts]
    growth = (report.edge_growth_per_1000_swaps, report.cloud_growth_per_1000_swaps)
    cpu_drift = "unknown" if report.cpu_drift is None else f"{report.cpu_drift:+.1%}"
    shown = ["unknown" if one is None else f"{one / 1e3:.1f} kB" for one in growth]
    return [
        summary(report),
        *text,
        f"{report.swaps} swaps among {', '.join(names)}, {report.frames_answered} frames of "
        f"{report.cameras} cameras in {report.seconds:.0f} s",
        f"swaps cost a frame {report.stall_p50_ms:.2f} ms (p50), {report.stall_p99_ms:.2f} ms (p99)",
        f"differing {found.differing}, wrong prompt {found.wrong_prompt}, lost {found.lost}, "
        f"doubled {found.doubled}, out of order {found.out_of_order}",
        f"growth per 1,000 swaps: edge {shown[0]}, cloud {shown[1]}; "
        f"drift of latency {report.latency_drift:+.1%}, of CPU time {cpu_drift}",
    ]


def summary(report: SwapReport) -> str:
    """The one line to compare runs by; slope: of both services' resident memory, in kB per 1,000 swaps."""
    found = report.faults
    wrong = found.differing + found.wrong_prompt + found.doubled + found.out_of_order
    slopes = (report.edge_growth_per_1000_swaps, report.cloud_growth_per_1000_swaps)
    known = [one for one in slopes if one is not None]
    slope = f"{sum(known) / 1000:.1f}" if len(known) == len(slopes) else "unknown"
    return (
        f"swaps={report.swaps} frames={report.frames_answered} wrong={wrong} dropped={found.lost} "
        f"stall_p50_ms={report.stall_p50_ms:.2f} stall_p99_ms={report.stall_p99_ms:.2f} "
        f"rss_slope_kb_per_1000={slope}"
    )


def _report(
    pack: Pack,
    prompts: Sequence[UsedPrompt],
    run: SwapRun,
    found: Faults,
    steady: Sequence[float],
    samples: Sequence[Sample],
) -> SwapReport:
    answers = run.all_answers
    seconds = [one.seconds for one in answers]
    under, without = percentiles(seconds), percentiles(steady)
    counts = [one.swaps for one in samples]
    cpu = [one.cpu_ms_per_frame for one in samples if one.cpu_ms_per_frame is not None]
    return SwapReport(
        report_version=REPORT_VERSION,
        pack=pack.name,
        codec_digest=pack.codec_digest,
        prompts=prompts,
        cameras=len(run.answers),
        swaps=len(run.counted),
        frames_answered=len(answers),
        seconds=round(max(one.ended for one in answers) - answers[0].started, 3),
        provenance=run_origin(),
        faults=found,
        swap=percentiles([swap.ended - swap.started for swap in run.counted]),
        frames=under,
        frames_without_swaps=without,
        stall_p50_ms=round(under.p50_ms - without.p50_ms, 3),
        stall_p99_ms=round(under.p99_ms - without.p99_ms, 3),
        latency_drift=round(drift(seconds), 4),
        cpu_drift=round(drift(cpu), 4) if len(cpu) >= 4 else None,
        edge_growth_per_1000_swaps=growth_per_1000(counts, [one.edge_bytes for one in samples]),
        cloud_growth_per_1000_swaps=growth_per_1000(counts, [one.cloud_bytes for one in samples]),
        samples=samples,
    )

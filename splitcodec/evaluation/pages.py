"""Pages that show measured numbers: `splitcodec publish` alone writes what stands between two marks."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from splitcodec.errors import DatasetError


def with_block(text: str, name: str, body: str) -> str:
    """`text` with what stands between <!-- name:begin --> and <!-- name:end --> replaced.

    DatasetError unless each mark is there once.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise DatasetError(f"the page must hold {begin} and {end} once each")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{body}\n{end}{rest.partition(end)[2]}"


class Shown(BaseModel):
    """Base of what is read back from a report; fields that are not shown are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ShownSpread(Shown):
    """Milliseconds."""

    median_ms: float
    p95_ms: float


class ShownCost(Shown):
    """Start-up and memory of one service."""

    start_s: float
    resident_bytes: int | None
    growth_per_1000_frames: float | None


class ShownTimes(Shown):
    """Stages, sums and shares."""

    frames: int
    stages: dict[str, ShownSpread]
    edge: ShownSpread
    graphs: ShownSpread
    overhead: ShownSpread
    wall: ShownSpread
    overhead_share: float
    entropy_share: float
    bytes_per_frame: float


class ShownMachine(Shown):
    """Where it ran."""

    cpu: str
    cores: int


class ShownLatency(Shown):
    """The parts of a `splitcodec bench latency` report that are shown."""

    command: str
    codec_digest: str
    provenance: ShownMachine
    latency: ShownTimes
    edge: ShownCost
    cloud: ShownCost


def read_latency(path: Path) -> ShownLatency:
    """A report written by `splitcodec bench latency`; DatasetError if it is not one."""
    try:
        return ShownLatency.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path.name} is no report of `splitcodec bench latency`: {error}") from error


def latency_table(report: ShownLatency, report_file: str) -> str:
    """Median and 95th percentile of each stage, shares, memory, start-up, with their source."""
    times = report.latency
    rows = {
        **times.stages,
        "edge, all stages": times.edge,
        "networks, both sides": times.graphs,
        "service overhead": times.overhead,
        "wall, client": times.wall,
    }
    lines = [
        f"One frame at a time, {times.frames} frames of {times.bytes_per_frame:.0f} bytes on the mean, "
        f"client and both services on {report.provenance.cores} cores of {report.provenance.cpu}.",
        "",
        "| stage | median ms | p95 ms |",
        "|---|---|---|",
        *(f"| {name} | {value.median_ms:.2f} | {value.p95_ms:.2f} |" for name, value in rows.items()),
        "",
        f"Overhead is {times.overhead_share:.1%} of the networks, entropy coding {times.entropy_share:.1%} "
        f"of the edge. {_cost('Edge', report.edge)} {_cost('Cloud', report.cloud)}",
        "",
        f"Source: [{Path(report_file).name}]({report_file}), `{report.command}`, "
        f"codec `{report.codec_digest[:16]}`.",
    ]
    return "\n".join(lines)


def _cost(name: str, cost: ShownCost) -> str:
    size = "unknown" if cost.resident_bytes is None else f"{cost.resident_bytes / 1e6:.0f} MB"
    grown = cost.growth_per_1000_frames
    growth = "unknown" if grown is None else f"{grown / 1e6:+.2f} MB"
    return f"{name}: ready after {cost.start_s:.2f} s, {size} at the end, {growth} per 1,000 frames."

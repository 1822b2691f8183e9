"""The report of `splitcodec bench latency`, read back, and what docs/operations.md shows of it."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from splitcodec.bench.command import BenchReport, ServiceCost
from splitcodec.errors import DatasetError


def read_latency(path: Path) -> BenchReport:
    """A report written by `splitcodec bench latency`; DatasetError if it is not one."""
    try:
        return TypeAdapter(BenchReport).validate_json(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path.name} is no report of `splitcodec bench latency`: {error}") from error


def latency_table(report: BenchReport, report_file: str) -> str:
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


def _cost(name: str, cost: ServiceCost) -> str:
    size = "unknown" if cost.resident_bytes is None else f"{cost.resident_bytes / 1e6:.0f} MB"
    grown = cost.growth_per_1000_frames
    growth = "unknown" if grown is None else f"{grown / 1e6:+.2f} MB"
    return f"{name}: ready after {cost.start_s:.2f} s, {size} at the end, {growth} per 1,000 frames."

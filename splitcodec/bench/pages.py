"""What documentation pages show of the reports of `bench swap`, `bench batches` and `bench memory`."""

from __future__ import annotations

from splitcodec.bench.batch_command import BatchReport
from splitcodec.bench.memory_command import MemoryReport, MemoryTrend
from splitcodec.bench.swap_command import SwapReport, summary


def swap_block(report: SwapReport, source: str) -> str:
    """For docs/prompts.md; source: name of the report's file, beside it in results/."""
    rows = (
        ("a swap, until it holds", report.swap),
        ("a frame while cameras are swapped", report.frames),
        ("a frame without swaps", report.frames_without_swaps),
    )
    found, machine = report.faults, report.provenance
    further = "".join(f" --version {name}" for name in report.versions)
    wrong = f"{found.differing} differing, {found.wrong_prompt} with a wrong prompt, {found.lost} lost"
    wrong += f", {found.doubled} doubled, {found.out_of_order} out of order"
    grown = (_kilobytes(report.edge_growth_per_1000_swaps), _kilobytes(report.cloud_growth_per_1000_swaps))
    return "\n".join(
        [
            f"{report.swaps} swaps among {_among(report)}, pack `{report.pack}` (codec "
            f"`{report.codec_digest[:16]}`), "
            f"{report.frames_answered} frames of {report.cameras} cameras: {wrong}.",
            "",
            "| | p50 ms | p99 ms |",
            "|---|---|---|",
            *(f"| {name} | {one.p50_ms:.1f} | {one.p99_ms:.1f} |" for name, one in rows),
            f"| stall: the difference | {report.stall_p50_ms:.1f} | {report.stall_p99_ms:.1f} |",
            "",
            f"Resident memory gained per 1,000 swaps over the last half: edge {grown[0]}, cloud {grown[1]}. "
            f"Drift from the second quarter to the last: latency {report.latency_drift:+.1%}, CPU time "
            f"{_share(report.cpu_drift)}. {machine.cores} cores of {machine.cpu}.",
            "",
            f"Source: [{source}](results/{source}), `splitcodec bench swap --count {report.swaps}{further}`.",
        ]
    )


def swap_line(report: SwapReport, source: str) -> str:
    """For docs/prompts.md: the report in one line; source: as for swap_block."""
    further = "".join(f" --version {name}" for name in report.versions)
    return (
        f"`{summary(report)}`\n\nSource: [{source}](results/{source}), "
        f"`splitcodec bench swap --count {report.swaps}{further}`, {_among(report)}."
    )


def _among(report: SwapReport) -> str:
    tasks = sorted({one.task for one in report.prompts})
    twice = sorted({one.task for one in report.prompts if one.pinned})
    return f"the tasks {', '.join(tasks)} and a second version of {', '.join(twice)}"


def batches_block(report: BatchReport, source: str) -> str:
    """For docs/architecture.md; source: name of the report's file, beside it in results/."""
    machine = report.provenance
    return "\n".join(
        [
            "| frames in one run of the decoder graph | | CPU ms per frame |",
            "|---|---|---|",
            *(f"| {row.frames} | {row.kind} | {row.cpu_ms:.1f} |" for row in report.rows),
            "",
            f"Pack `{report.pack}` at {report.height}x{report.width}, {report.threads} thread of "
            f"{machine.cpu}. Source: [{source}](results/{source}), `splitcodec bench batches`.",
        ]
    )


def memory_block(report: MemoryReport, source: str) -> str:
    """For docs/operations.md; source: name of the report's file, beside it in results/."""
    machine = report.provenance
    return "\n".join(
        [
            f"{report.frames} frames of task `{report.task}`, one after the other over one connection; a "
            f"line through the resident memory from frame {report.settled_from} on.",
            "",
            "| | gained per 1,000 frames | standard error | lowest to highest | at the end | peak |",
            "|---|---|---|---|---|---|",
            _trend_row("edge", report.edge),
            _trend_row("cloud", report.cloud),
            "",
            f"{machine.cores} cores of {machine.cpu}, {report.frames / report.seconds:.0f} frames/s. "
            f"Source: [{source}](results/{source}), `{report.command}`, codec `{report.codec_digest[:16]}`.",
        ]
    )


def _trend_row(name: str, trend: MemoryTrend) -> str:
    error = "unknown" if trend.slope_error is None else f"{trend.slope_error / 1000:.2f} kB"
    slope = "unknown" if trend.slope is None else f"{trend.slope / 1000:+.2f} kB"
    span = f"{_megabytes(trend.lowest)} to {_megabytes(trend.highest)}"
    return (
        f"| {name} | {slope} | {error} | {span} | {_megabytes(trend.resident)} | {_megabytes(trend.peak)} |"
    )


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"


def _kilobytes(size: float | None) -> str:
    return "unknown" if size is None else f"{size / 1000:+.0f} kB"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1%}"

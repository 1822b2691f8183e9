"""A pack in words, for people."""

from __future__ import annotations

import math

from splitcodec.packs.load import Pack
from splitcodec.packs.schema import Manifest, TaskSection


def describe(pack: Pack) -> list[str]:
    """Lines about the codec, the tasks, what was measured, and where the weights come from."""
    manifest = pack.manifest
    codec = manifest.codec
    lines = [
        f"pack {manifest.name}, format {manifest.format_version}, codec digest {manifest.codec_digest[:16]}",
        f"codec: latent {codec.latent_channels}, hyper {codec.hyper_channels},"
        f" feature {codec.feature_channels} channels; rates 0 to {codec.rate_points - 1}",
    ]
    lines += [
        f"  {name:<14}{graph.macs_per_pixel:9.1f} MAC/px  {graph.file}"
        for name, graph in codec.graphs.items()
    ]
    shapes = {name: spec.shape for name, spec in codec.prompt_schema.items() if not name.startswith("rate.")}
    parameters = sum(math.prod(shape) for shape in shapes.values())
    for task, section in manifest.tasks.items():
        lines += _task_lines(task, section, parameters)
    return [*lines, *_measured_lines(manifest), *_provenance_lines(manifest)]


def _task_lines(task: str, section: TaskSection, parameters: int) -> list[str]:
    size = f"{section.input.width}x{section.input.height} {section.input.fit}"
    size += ", trimmed" if section.input.trim else ""
    return [
        f"task {task}: input {size}, {len(section.labels)} labels, postprocess {section.postprocess},"
        f" prompt digest {section.prompt.digest[:16]}, {parameters:,} parameters",
        f"  {'tail':<14}{section.tail.macs_per_pixel:9.1f} MAC/px  {section.tail.file}",
    ]


def _measured_lines(manifest: Manifest) -> list[str]:
    if not manifest.measured:
        return ["measured: nothing recorded"]
    return [
        f"measured: {row.task} on {row.data} ({row.frames} frames), rate {row.rate:g}:"
        f" {row.bytes_per_frame:.0f} bytes/frame, {row.bpp:.4f} bpp, "
        + ", ".join(f"{name} {value:.4f}" for name, value in row.metrics.items())
        for row in manifest.measured
    ]


def _provenance_lines(manifest: Manifest) -> list[str]:
    origin = manifest.provenance
    return [
        f"made {origin.created} with splitcodec {origin.tool_version}, seed {origin.seed}",
        *(f"teacher: {t.name} ({t.task}), {t.licence}, {t.origin}" for t in origin.teachers),
        *(f"data: {d.name}, {d.items} items, {d.licence}, {d.origin}" for d in origin.data),
        *(
            f"stage {s.name}: {s.steps} steps of {s.batch}, {s.seconds / 60:.0f} min on {s.machine}"
            for s in origin.stages
        ),
        *([origin.notes] if origin.notes else []),
    ]

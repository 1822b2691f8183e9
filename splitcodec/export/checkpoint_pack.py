"""Finished runs -> a pack folder: stage 1's codec, stage 2's prompts and tails, provenance and model card."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import torch
from torch import Tensor

import splitcodec
from splitcodec.errors import TrainingError
from splitcodec.export.build import CodecGraphs, export_codec, export_tail, prompt_tensors
from splitcodec.export.card import model_card
from splitcodec.export.fit_tables import fit_photos, fitted_tables
from splitcodec.export.graphs import PictureGraph, TailGraph
from splitcodec.export.lists import read_labels
from splitcodec.export.sources import PackSources, TaskSource, teacher_origin
from splitcodec.models.sizes import SIZES
from splitcodec.models.transforms import ImageExtractor
from splitcodec.packs.schema import Manifest, Provenance, TeacherOrigin, TrainingData, TrainingStage
from splitcodec.packs.write import PackContents, TaskContents, write_pack
from splitcodec.prompts.schema import Y_COUNTS
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.history import RunSummary, read_summary
from splitcodec.training.photos import read_photos
from splitcodec.training.prompt_run import TaskParts, student_of, task_parts
from splitcodec.training.recipes import STARTED

CPU = torch.device("cpu")
POSTPROCESS = {2: "classify", 4: "deeplab"}  # by the rank of a tail's logits


def export_pack(
    sources: PackSources, folder: Path, data: list[TrainingData] | None = None, notes: str = ""
) -> Manifest:
    """Export, gate and write a pack. ExportMismatch, InexactScaleBranch, PackError, TrainingError."""
    photos = fit_photos(read_photos(list(sources.photos))) if sources.photos else []
    tasks: dict[str, TaskContents] = {}
    teachers: list[TeacherOrigin] = []
    graphs: CodecGraphs | None = None
    for source in sources.tasks:
        parts = _task_parts(sources, source)
        arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
        tensors: dict[str, Tensor] = {name: torch.from_numpy(value) for name, value in arrays.items()}
        if graphs is None:
            graphs = export_codec(parts.codec, tensors)
        if photos:
            arrays[Y_COUNTS] = fitted_tables(parts.codec, tensors, graphs.tables, photos, source.convention)
        tail, macs, _gap = export_tail(
            TailGraph(parts.adapter, parts.tail, parts.spec.outputs), parts.codec.sizes.feature_channels
        )
        tasks[source.task] = TaskContents(
            tensors=arrays,
            tail=tail,
            tail_macs_per_pixel=macs,
            input=source.convention,
            labels=read_labels(source.labels),
            postprocess=source.postprocess or _postprocess(source, parts),
        )
        started = bool(parts.spec.levels) and _starts_from_teacher(sources.codec_file)
        teachers.append(teacher_origin(source, parts.spec, started))
    if graphs is None:
        raise TrainingError("a pack needs at least one task; give --teacher and --labels, or --tasks")
    picture, picture_macs = _picture(sources)
    provenance = _provenance(sources, tuple(teachers), tuple(data or ()), notes)
    contents = PackContents(
        name=sources.name,
        graphs=graphs.files,
        macs_per_pixel=graphs.macs_per_pixel,
        feature_channels=SIZES[sources.sizes].feature_channels,
        tables=graphs.tables,
        exact_bound=graphs.exact_bound,
        tasks=tasks,
        measured=(),
        provenance=provenance,
        model_card=model_card(sources.name, graphs, tasks, provenance, picture_macs),
        picture=picture,
        picture_macs_per_pixel=picture_macs,
    )
    return write_pack(folder, contents)


def _task_parts(sources: PackSources, source: TaskSource) -> TaskParts:
    student = "feature" if source.run is None else student_of(source.run)
    parts = task_parts(SIZES[sources.sizes], sources.codec_file, source.source, CPU, student)
    if source.run is not None:
        load_modules(source.run, parts.trained())
    return parts


def _picture(sources: PackSources) -> tuple[bytes, float]:
    """Stage 1's image extractor as a graph, and its multiplications per pixel."""
    channels = SIZES[sources.sizes].feature_channels
    extractor = ImageExtractor(channels)
    load_modules(sources.codec_file, {"extractor": extractor})
    data, macs, _gap = export_tail(PictureGraph(extractor), channels)
    return data, macs


def _postprocess(source: TaskSource, parts: TaskParts) -> str:
    """By the detector's kind; otherwise by the rank of the logits, which torch upsamples on centred cells."""
    if parts.spec.levels or parts.spec.anchored:
        return "retinanet" if parts.spec.anchored else "yolox"
    side = 8 * 64 // parts.spec.stride
    with torch.no_grad():
        outputs = parts.tail(torch.zeros(1, parts.spec.split_channels, side, side))
    rank = outputs[parts.spec.outputs[0]].dim()
    if rank not in POSTPROCESS:
        raise TrainingError(f"the tail's output has {rank} axes; (N, K) and (N, K, h, w) can be served")
    centred = rank == 4 and not isinstance(source.source, Path)
    return "deeplab_centred" if centred else POSTPROCESS[rank]


def _provenance(
    sources: PackSources, teachers: tuple[TeacherOrigin, ...], data: tuple[TrainingData, ...], notes: str
) -> Provenance:
    """From the run.json files beside the checkpoints."""
    codec = _summary(sources.codec_file)
    runs = codec.line() + [_summary(task.run) for task in sources.tasks if task.run is not None]
    stages = tuple(
        TrainingStage(
            name=run.recipe, steps=run.steps, batch=run.batch, seconds=run.seconds, machine=run.machine
        )
        for run in runs
    )
    return Provenance(
        created=date.today().isoformat(),
        tool_version=splitcodec.__version__,
        seed=codec.seed,
        teachers=teachers,
        data=data,
        stages=stages,
        notes=notes,
    )


def _starts_from_teacher(codec_file: Path) -> bool:
    """Whether g_a began as a detector's own layers, in the run or in one it went on from."""
    return any(run.recipe in STARTED for run in _summary(codec_file).line())


def _summary(checkpoint: Path) -> RunSummary:
    summary = read_summary(checkpoint)
    if summary is None:
        raise TrainingError(f"no run.json beside {checkpoint.name}; export from the folder its run wrote")
    return summary


__all__ = ["CodecGraphs", "PackSources", "TaskSource", "export_pack"]

"""Finished runs -> a pack folder: stage 1's codec, stage 2's prompt and tail, provenance and model card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

import splitcodec
from splitcodec.errors import TrainingError
from splitcodec.export.build import Array, CodecGraphs, export_codec, export_tail, prompt_tensors
from splitcodec.export.card import model_card
from splitcodec.export.graphs import TailGraph
from splitcodec.models.sizes import SIZES
from splitcodec.packs.schema import (
    InputConvention,
    Manifest,
    Provenance,
    TeacherOrigin,
    TrainingData,
    TrainingStage,
)
from splitcodec.packs.write import PackContents, TaskContents, write_pack
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.history import read_summary
from splitcodec.training.prompt_run import TaskParts, task_parts
from splitcodec.training.teacher import YOLOX


@dataclass(frozen=True)
class PackSources:
    """Files a pack is made from.

    task_file None: stage 1 only, the prompt does nothing and the tail is the teacher's.
    """

    codec_file: Path
    task_file: Path | None
    teacher_file: Path
    labels_file: Path
    sizes: str = "nano"
    name: str = "nano-coco"


def export_pack(sources: PackSources, folder: Path, provenance: Provenance) -> Manifest:
    """Export, gate and write a pack; raises ExportMismatch, InexactScaleBranch or PackError."""
    sizes = SIZES[sources.sizes]
    parts = task_parts(sizes, sources.codec_file, sources.teacher_file, torch.device("cpu"))
    if sources.task_file is not None:
        load_modules(sources.task_file, parts.trained())
    arrays = prompt_tensors(parts.codec, parts.prompt, parts.gains, parts.hyper_prior)
    tensors: dict[str, Tensor] = {name: torch.from_numpy(value) for name, value in arrays.items()}
    graphs = export_codec(parts.codec, tensors)
    task = _detect_task(sources, parts, arrays)
    contents = PackContents(
        name=sources.name,
        graphs=graphs.files,
        macs_per_pixel=graphs.macs_per_pixel,
        feature_channels=sizes.feature_channels,
        tables=graphs.tables,
        exact_bound=graphs.exact_bound,
        tasks={"detect": task},
        measured=(),
        provenance=provenance,
        model_card=model_card(sources.name, graphs, {"detect": task}, provenance),
    )
    return write_pack(folder, contents)


def _detect_task(sources: PackSources, parts: TaskParts, arrays: Mapping[str, Array]) -> TaskContents:
    tail, macs, _gap = export_tail(
        TailGraph(parts.adapter, parts.tail, YOLOX.outputs), parts.codec.sizes.feature_channels
    )
    return TaskContents(
        tensors=arrays,
        tail=tail,
        tail_macs_per_pixel=macs,
        input=InputConvention(height=416, width=416, fit="letterbox", fill=114),
        labels=tuple(sources.labels_file.read_text(encoding="utf-8").splitlines()),
        postprocess="yolox",
    )


def run_provenance(sources: PackSources, data: list[TrainingData], notes: str) -> Provenance:
    """Provenance from the run.json files beside the checkpoints; TrainingError if there is none."""
    last = sources.codec_file if sources.task_file is None else sources.task_file
    summary = read_summary(last)
    if summary is None:
        raise TrainingError(f"no run.json beside {last.name}; export from the folder its run wrote")
    stages = tuple(
        TrainingStage(
            name=run.recipe, steps=run.steps, batch=run.batch, seconds=run.seconds, machine=run.machine
        )
        for run in summary.line()
    )
    teacher = TeacherOrigin(
        task="detect",
        name="YOLOX-Nano (COCO 80)",
        origin="YOLOX by Megvii, yolox_nano.onnx",
        licence="Apache-2.0",
        sha256=hashlib.sha256(sources.teacher_file.read_bytes()).hexdigest(),
        changes="split at feat_s8; the layers behind it are fine-tuned as the task tail against the "
        "teacher's outputs",
    )
    return Provenance(
        created=date.today().isoformat(),
        tool_version=splitcodec.__version__,
        seed=summary.seed,
        teachers=(teacher,),
        data=tuple(data),
        stages=stages,
        notes=notes,
    )


__all__ = ["CodecGraphs", "PackSources", "export_pack", "run_provenance"]

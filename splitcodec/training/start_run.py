"""The run of `splitcodec train start`: a checkpoint of stage 1 that was never trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec
from splitcodec.models.sizes import SIZES
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.provenance import cpu_name
from splitcodec.training.adapter_start import fit_adapter
from splitcodec.training.checkpoint import TrainingProgress, save_checkpoint
from splitcodec.training.codec_run import build_parts
from splitcodec.training.crops import new_crops
from splitcodec.training.history import RunSummary, write_summary
from splitcodec.training.recipes import BASE2, START
from splitcodec.training.start import start_from_teacher
from splitcodec.training.teacher import YOLOX, TeacherSource, open_teacher

BATCHES = 24  # of the recipe's crops: some 25,000 cells of each 256x256 crop's feature


def write_start(
    photos: Sequence[Path], teacher: Path, also: Sequence[TeacherSource], folder: Path, sizes: str = "nano"
) -> float:
    """Write folder/final.safetensors and run.json; the share of task-weighted variance the latent keeps.

    teacher: a YOLOX; also: further teachers, whose adapters start from least squares on h.
    """
    began, recipe = time.monotonic(), BASE2
    torch.manual_seed(recipe.seed)
    opened = open_teacher(teacher)
    if opened.spec is not YOLOX:
        raise TrainingError(
            f"{teacher.name} is a teacher for {opened.spec.task}; a codec starts from a YOLOX"
        )
    parts = build_parts(SIZES[sizes], opened.spec.split_channels, torch.device("cpu"))
    source, _ = new_crops(recipe, photos, recipe.seed)
    with source:
        crops = [source.next() for _ in range(BATCHES)]
    kept = start_from_teacher(parts.codec, parts.adapter, opened, teacher, crops)
    modules = parts.trained()
    for other in also:
        task, adapter = _fitted_adapter(other, parts.codec, crops)
        modules[f"adapter_{task}"] = adapter
    folder.mkdir(parents=True, exist_ok=True)
    seconds = round(time.monotonic() - began, 1)
    save_checkpoint(folder / "final.safetensors", modules, None, [], TrainingProgress(0, seconds))
    machine = f"{torch.get_num_threads()} threads of {cpu_name()}"
    summary = RunSummary(
        recipe=START, seed=recipe.seed, steps=0, batch=recipe.batch, seconds=seconds, machine=machine
    )
    write_summary(folder, summary)
    return kept


@torch.no_grad()
def _fitted_adapter(
    source: TeacherSource, codec: FeatureCodec, crops: Sequence[Tensor]
) -> tuple[str, FeatureAdapter]:
    """A further teacher's adapter, from what the untrained codec decodes without rounding."""
    teacher = open_teacher(source)
    adapter = FeatureAdapter(codec.sizes.feature_channels, teacher.spec.split_channels, teacher.spec.stride)
    pairs = ((codec.g_s(codec.g_a(x / 127.5 - 1.0).latent), teacher.split(x)) for x in crops)
    fit_adapter(adapter, pairs)
    return teacher.spec.task, adapter

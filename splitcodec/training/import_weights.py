"""Weights trained outside the project -> a finished run's folder: every name and shape checked, no code run.

A base file holds `codec.*`, `gains.*`, `hyper_prior.*`, `extractor.*` and `adapter.TASK.*`; a task's file,
whose metadata name the task, holds `prompt.*`, `gains.*`, `hyper_prior.*`, `adapter.*` and `tail.*`, the tail
under the names that the teacher's layers behind the split have here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.training.checkpoint import TrainingProgress, save_checkpoint
from splitcodec.training.codec_run import CodecParts, build_parts
from splitcodec.training.conformance import ConformanceParts, check_conformance
from splitcodec.training.history import RunSummary, read_summary, write_summary
from splitcodec.training.prompt_run import STAGE1_ADAPTERS, task_parts
from splitcodec.training.teacher import SPECS, TeacherSource, spec_of
from splitcodec.training.weights import read_tensors

CPU = torch.device("cpu")
# Parts of a stem's tensor names in such files, and ours.
STEM_NAMES = {
    "stem.c": "enter.0",
    "d2.c": "down2.dconv.0",
    "p2.c": "down2.pconv.0",
    "d3.c": "down3.dconv.0",
    "p3.c": "down3.pconv.0",
    "c2": "stage2",
    "c3": "stage3",
}
INNER_NAMES = {"dconv.c": "conv2.dconv.0", "pconv.c": "conv2.pconv.0"}
STEM_PREFIX = "codec.g_a.stem."


@dataclass(frozen=True)
class RunNotes:
    """What a weights file does not say of its own training, for the model card."""

    recipe: str
    seconds: float
    machine: str
    seed: int = 0
    batch: int = 8


def import_base(
    file: Path, folder: Path, notes: RunNotes, sizes: str = "nano", conformance: Path | None = None
) -> None:
    """Write folder/final.safetensors and run.json as a run of stage 1 does.

    conformance: file whose numbers the networks must give, see training/conformance.py. TrainingError names
    the tensors that are missing, extra, misshaped, not finite, or off.
    """
    tensors, metadata = read_tensors(file)
    parts = build_parts(SIZES[sizes], SPECS["detect"].split_channels, CPU)
    modules = base_modules(parts)
    named = {_base_name(name): value for name, value in tensors.items()}
    _fill(file, modules, named)
    if conformance is not None:
        whole = ConformanceParts(
            parts.codec, parts.gains, silent(parts.prompt), parts.hyper_prior, parts.adapter, None
        )
        check_conformance(conformance, "base", whole)
    _write(folder, modules, metadata, notes, None)


def silent(prompt: TaskPrompt) -> TaskPrompt:
    """The prompt with every tensor at zero: the base alone."""
    with torch.no_grad():
        for value in prompt.parameters():
            value.zero_()
    return prompt


def import_task(
    file: Path,
    folder: Path,
    notes: RunNotes,
    teacher: TeacherSource,
    codec_file: Path,
    sizes: str = "nano",
    conformance: Path | None = None,
) -> str:
    """Write a run of stage 2 on the imported base codec_file; returns the task. As `import_base`.

    The teacher tells the tail's tensors.
    """
    tensors, metadata = read_tensors(file)
    task, spec = metadata.get("task", ""), spec_of(teacher)
    if task != spec.task:
        raise TrainingError(
            f"{file.name} holds weights of task {task!r}, the teacher is one for {spec.task!r}; give the "
            "teacher it was trained with"
        )
    parts = task_parts(SIZES[sizes], codec_file, teacher, CPU)
    modules = parts.trained()
    _fill(file, modules, {name.replace(".", "/", 1): value for name, value in tensors.items()})
    if conformance is not None:
        whole = ConformanceParts(
            parts.codec, parts.gains, parts.prompt, parts.hyper_prior, parts.adapter, parts.tail
        )
        check_conformance(conformance, task, whole)
    _write(folder, modules, metadata, notes, read_summary(codec_file))
    return task


def task_of(file: Path) -> str | None:
    """The task a weights file is for, by its metadata; None for a base."""
    return read_tensors(file)[1].get("task")


def base_modules(parts: CodecParts) -> dict[str, nn.Module]:
    """What a base file fills, under the checkpoint's names: an adapter for each known teacher."""
    modules = parts.trained()
    channels = parts.codec.sizes.feature_channels
    for task, name in STAGE1_ADAPTERS.items():
        if name not in modules:
            spec = SPECS[task]
            modules[name] = FeatureAdapter(channels, spec.split_channels, spec.stride)
    return modules


def _base_name(name: str) -> str:
    """`codec.h_a.out.bias` -> `codec/h_a.out.bias`, `adapter.segment.out.bias` -> `adapter_segment/...`."""
    if name.startswith(STEM_PREFIX):
        return "codec/g_a.stem." + stem_name(name.removeprefix(STEM_PREFIX))
    module, _, rest = name.partition(".")
    if module == "adapter":
        task, _, rest = rest.partition(".")
        module = STAGE1_ADAPTERS.get(task, f"adapter_{task}")
    return f"{module}/{rest}"


def stem_name(name: str) -> str:
    """A tensor of the stem, by its name in a weights file -> by its name in models/stem.py."""
    path, _, kind = name.rpartition(".")
    for theirs, ours in STEM_NAMES.items():
        if path == theirs or path.startswith(f"{theirs}."):
            path = ours + path.removeprefix(theirs)
            break
    path = path.replace(".m.", ".bottlenecks.")
    for theirs, ours in INNER_NAMES.items():
        if path.endswith(f".{theirs}"):
            path = path.removesuffix(theirs) + ours
    return f"{path.removesuffix('.c')}.0.{kind}" if path.endswith(".c") else f"{path}.{kind}"


def _fill(file: Path, modules: Mapping[str, nn.Module], found: Mapping[str, Tensor]) -> None:
    """Load the tensors into the modules; TrainingError unless they are exactly theirs."""
    states = {name: module.state_dict() for name, module in modules.items()}
    wanted = {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}
    if set(found) != set(wanted):
        missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        raise TrainingError(f"{file.name} lacks tensors {missing[:8]} and has extra {extra[:8]}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise TrainingError(
                f"{file.name}: {name} is {tuple(value.shape)}, the codec takes {tuple(wanted[name].shape)}"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise TrainingError(f"{file.name}: {name} holds NaN or infinity; its training broke down")
    for name, module in modules.items():
        module.load_state_dict({key: found[f"{name}/{key}"] for key in states[name]}, strict=True)


def _write(
    folder: Path,
    modules: dict[str, nn.Module],
    metadata: Mapping[str, str],
    notes: RunNotes,
    after: RunSummary | None,
) -> None:
    steps = int(metadata.get("steps", "0"))
    folder.mkdir(parents=True, exist_ok=True)
    done = TrainingProgress(steps, notes.seconds)
    save_checkpoint(folder / "final.safetensors", modules, None, [], done)
    summary = RunSummary(
        recipe=notes.recipe,
        seed=notes.seed,
        steps=steps,
        batch=notes.batch,
        seconds=notes.seconds,
        machine=notes.machine,
        after=after,
    )
    write_summary(folder, summary)

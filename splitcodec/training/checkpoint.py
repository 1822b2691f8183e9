"""Checkpoints: one safetensors file of weights, optimiser moments and averages, and where the run stands.

No pickle: a checkpoint can be handed on without trusting its maker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.training.origin import Origin, parse_origin


@dataclass(frozen=True)
class TrainingProgress:
    """Finished steps and the seconds they took."""

    steps: int
    seconds: float


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Adam | None,
    average: list[Tensor],
    done: TrainingProgress,
    origin: Origin | None = None,
) -> None:
    """Write weights, Adam moments and the weight average atomically (a killed run keeps its last file).

    origin: what they are of, for `resume` to compare.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors.update({f"{name}/{key}": value.contiguous() for key, value in module.state_dict().items()})
    for i, value in enumerate(average):
        tensors[f"average/{i}"] = value.contiguous()
    if optimiser is not None:
        parameters = (p for group in optimiser.param_groups for p in group["params"])
        for i, state in enumerate(map(optimiser.state.get, parameters)):
            if state:  # a parameter that never had a gradient has none
                tensors[f"adam/{i}/mean"] = state["exp_avg"].contiguous()
                tensors[f"adam/{i}/square"] = state["exp_avg_sq"].contiguous()
    partial = path.with_suffix(".partial")
    metadata = {"steps": json.dumps(done.steps), "seconds": json.dumps(done.seconds)}
    if origin is not None:
        metadata["origin"] = origin.model_dump_json()
    save_file(tensors, str(partial), metadata=metadata)
    os.replace(partial, path)


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors a checkpoint holds, module/tensor; TrainingError if it cannot be read."""
    with _readable(path), safe_open(str(path), framework="pt") as file:
        return list(file.keys())


def module_names(path: Path) -> set[str]:
    """Names of the modules a checkpoint holds; TrainingError if it cannot be read."""
    return {name.partition("/")[0] for name in tensor_names(path)}


def fits(path: Path, name: str, module: nn.Module) -> bool:
    """True if a module of the checkpoint has exactly this one's tensors and shapes."""
    with _readable(path), safe_open(str(path), framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118
        stored = {key.removeprefix(f"{name}/"): tuple(file.get_slice(key).get_shape()) for key in keys}
    return stored == {key: tuple(value.shape) for key, value in module.state_dict().items()}


def load_modules(path: Path, modules: dict[str, nn.Module]) -> None:
    """Load weights; TrainingError if a module lacks a tensor, has one too many or one misshaped."""
    with _readable(path):
        tensors = load_file(str(path))
    for name, module in modules.items():
        state = {
            key.removeprefix(f"{name}/"): value
            for key, value in tensors.items()
            if key.startswith(f"{name}/")
        }
        try:
            module.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise TrainingError(f"{path} does not fit this recipe and teacher: {error}") from error


def resume(
    path: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Adam, parameters: list[nn.Parameter]
) -> tuple[list[Tensor], TrainingProgress]:
    """Weights and optimiser as they were -> the weight average and what is done. See `check_origin` first."""
    load_modules(path, modules)
    metadata = _metadata(path)
    done = TrainingProgress(int(json.loads(metadata["steps"])), float(json.loads(metadata["seconds"])))
    tensors = load_file(str(path))
    for i, parameter in enumerate(parameters):
        if f"adam/{i}/mean" in tensors:
            optimiser.state[parameter] = {
                "step": torch.tensor(float(done.steps)),
                "exp_avg": torch.empty_like(parameter).copy_(tensors[f"adam/{i}/mean"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"adam/{i}/square"]),
            }
    average = [torch.empty_like(p).copy_(tensors[f"average/{i}"]) for i, p in enumerate(parameters)]
    return average, done


def check_origin(path: Path, wanted: Origin, even_unknown: bool = False) -> None:
    """TrainingError unless the checkpoint was written by a run of this origin.

    even_unknown: take one that does not say, as those written before this was recorded.
    """
    text = _metadata(path).get("origin")
    if text is None:
        if even_unknown:
            return
        raise TrainingError(
            f"{path} does not say what it was trained by, and this run is of {wanted}; give another --out, "
            "or --resume-anyway if you know that it is of the same"
        )
    found = parse_origin(text, path)
    if not found.is_of(wanted):
        raise TrainingError(f"{path} is of {found}, this run of {wanted}; give another --out, or remove it")


def _metadata(path: Path) -> dict[str, str]:
    with _readable(path), safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """TrainingError if the file is not there or no safetensors file."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path} is no checkpoint that can be read ({error}); give the final.safetensors of a run"
        ) from error

"""Checkpoints: one safetensors file of weights, optimiser moments and averages, and where the run stands.

No pickle: a checkpoint can be handed on without trusting its maker.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splitcodec.errors import TrainingError


@dataclass(frozen=True)
class Progress:
    """Finished steps and the seconds they took."""

    steps: int
    seconds: float


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Adam | None,
    average: list[Tensor],
    done: Progress,
) -> None:
    """Write weights, Adam moments and the weight average atomically (a killed run keeps its last file)."""
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
    save_file(
        tensors, str(partial), metadata={"steps": json.dumps(done.steps), "seconds": json.dumps(done.seconds)}
    )
    os.replace(partial, path)


def module_names(path: Path) -> set[str]:
    """Names of the modules a checkpoint holds."""
    with safe_open(str(path), framework="pt") as file:
        return {key.partition("/")[0] for key in file.keys()}  # noqa: SIM118 (not iterable)


def fits(path: Path, name: str, module: nn.Module) -> bool:
    """True if a module of the checkpoint has exactly this one's tensors and shapes."""
    with safe_open(str(path), framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118
        stored = {key.removeprefix(f"{name}/"): tuple(file.get_slice(key).get_shape()) for key in keys}
    return stored == {key: tuple(value.shape) for key, value in module.state_dict().items()}


def load_modules(path: Path, modules: dict[str, nn.Module]) -> None:
    """Load weights; TrainingError if a module lacks a tensor, has one too many or one misshaped."""
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
) -> tuple[list[Tensor], Progress]:
    """Weights and optimiser as they were -> the weight average and what is done."""
    load_modules(path, modules)
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    done = Progress(int(json.loads(metadata["steps"])), float(json.loads(metadata["seconds"])))
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

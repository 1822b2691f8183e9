"""Weights of a torch teacher from a file: safetensors, or a torch state dict that cannot run any code."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from splitcodec.errors import TrainingError

WRAPPERS = ("model", "state_dict")  # keys under which training scripts keep the state dict
PARALLEL_PREFIX = "module."  # of a module saved inside DistributedDataParallel
TRAINING_ONLY = "aux_classifier."  # of torchvision's segmenters: a second head that no answer comes from


def load_weights(module: nn.Module, file: Path) -> None:
    """Fill a module from a file; TrainingError if it cannot be read or does not fit tensor for tensor."""
    state = {name.removeprefix(PARALLEL_PREFIX): value for name, value in read_state(file).items()}
    state = {name: value for name, value in state.items() if not name.startswith(TRAINING_ONLY)}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise TrainingError(f"{file.name} does not fit {type(module).__name__}: {error}") from error


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; TrainingError if it cannot be read."""
    try:
        with safe_open(str(file), framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, dict(stored.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{file} is not a safetensors file that can be read: {error}") from error


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file or of a torch file, which may hold tensors and plain values only."""
    try:
        if file.suffix == ".safetensors":
            return load_file(str(file))
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{file} holds no weights that can be read safely ({error}); give a .safetensors file or a torch "
            "state dict"
        ) from error
    for key in WRAPPERS:
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise TrainingError(f"{file} holds a {type(stored).__name__}, not a state dict of tensors")
    return dict(stored)

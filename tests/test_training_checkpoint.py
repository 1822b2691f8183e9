"""Files of weights: what they give back, and files that are damaged or do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from splitcodec.errors import TrainingError
from splitcodec.training.checkpoint import (
    TrainingProgress,
    load_modules,
    module_names,
    save_checkpoint,
    tensor_names,
)


@pytest.mark.parametrize("fault", ["absent", "damaged"])
def test_weights_that_cannot_be_read_are_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "final.safetensors"
    if fault == "damaged":
        path.write_bytes(saved_pair(tmp_path)[0].read_bytes()[:-5])
    for read in (module_names, tensor_names, lambda file: load_modules(file, {"net": nn.Linear(2, 3)})):
        with pytest.raises(TrainingError, match=r"final\.safetensors is no checkpoint .*give the final\.saf"):
            read(path)


def saved_pair(folder: Path) -> tuple[Path, nn.Module]:
    module = nn.Linear(2, 3)
    path = folder / "file.safetensors"
    save_checkpoint(path, {"net": module}, None, [], TrainingProgress(5, 1.5))
    return path, module


def test_checkpoint_gives_the_weights_back(tmp_path: Path) -> None:
    path, module = saved_pair(tmp_path)
    other = nn.Linear(2, 3)
    load_modules(path, {"net": other})
    assert other.weight.equal(module.weight)
    assert other.bias.equal(module.bias)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.safetensors"], "no partial file is left"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("missing", r"Missing key.*bias"),
        ("extra", r"Unexpected key.*scale"),
        ("misshaped", r"size mismatch for weight"),
        ("other module", r"Missing key"),
    ],
)
def test_checkpoint_that_does_not_fit_is_an_error(tmp_path: Path, change: str, says: str) -> None:
    path, module = saved_pair(tmp_path)
    tensors = load_file(str(path))
    if change == "missing":
        del tensors["net/bias"]
    elif change == "extra":
        tensors["net/scale"] = torch.ones(1)
    elif change == "misshaped":
        tensors["net/weight"] = torch.ones(3, 4)
    else:
        tensors = {key.replace("net/", "other/"): value for key, value in tensors.items()}
    save_file(tensors, str(path))
    with pytest.raises(TrainingError, match=rf"(?s)file\.safetensors does not fit this recipe.*{says}"):
        load_modules(path, {"net": module})

"""Imported weights against the numbers their maker saw: one picture, every stage's result at one rate point.

A conformance file holds `image` (uint8 [1, 3, H, W]) and `NAME.STAGE` for `base` or a task. Floats agree to
1e-3 of their largest magnitude. z symbols and rounded sigma indexes are equal, except where the value given
lies within 1e-3 of a tie; symbols are equal but for one in a thousand, where y minus its mean does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.entropy import SIGMA_LEVELS
from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains, gaussian_bits
from splitcodec.models.prompts import TaskPrompt
from splitcodec.training.weights import read_tensors

FLOAT_GAP = 1e-3  # of the largest magnitude
TIE = 1e-3
SYMBOL_SHARE = 1e-3


@dataclass(frozen=True)
class ConformanceParts:
    """The networks of one NAME of a conformance file; without a tail its outputs are not compared."""

    codec: FeatureCodec
    gains: RateGains
    prompt: TaskPrompt
    hyper_prior: HyperPrior
    adapter: nn.Module
    tail: nn.Module | None


def check_conformance(file: Path, name: str, parts: ConformanceParts) -> list[str]:
    """Compare every stage that the file states for `name`; returns their names.

    TrainingError names the first tensor that differs and by how much, or says that none is stated.
    """
    stated, metadata = read_tensors(file)
    found = stages(parts, stated["image"].float(), int(metadata.get("rate_point", "0")))
    compared = [stage for stage in found if f"{name}.{stage}" in stated]
    if not compared:
        raise TrainingError(f"{file.name} states nothing for {name!r}; it has {sorted(stated)[:8]}")
    for stage in compared:
        _compare(f"{name}.{stage}", found[stage], stated[f"{name}.{stage}"])
    return compared


@torch.no_grad()
def stages(parts: ConformanceParts, image: Tensor, point: int) -> dict[str, Tensor]:
    """What each stage gives for a picture (1, 3, H, W), RGB 0..255, at a trained rate point."""
    codec, prompt = parts.codec, parts.prompt.tensors()
    gain_y, gain_z, shift = parts.gains(torch.tensor([point]))
    seen = codec.g_a(image * (1.0 / 127.5) - 1.0)
    y, _ = codec.head(image, gain_y, prompt)
    z = torch.floor(codec.hyper(y, gain_z, prompt) + 0.5)
    index = codec.scale(z, prompt, codec.layout["h_s_scale"])[:, :, : y.shape[2], : y.shape[3]]
    index = torch.clamp(index + shift, 0.0, SIGMA_LEVELS - 1.0)
    support = codec.support(z, 1.0 / gain_z, prompt, y)
    symbols, means = codec.context.quantize(y, support)
    feature = codec.reconstruct(symbols, means, 1.0 / gain_y, prompt)
    split = parts.adapter(feature)
    bits = gaussian_bits(symbols, torch.floor(index + 0.5)).sum()
    bits = bits - torch.log2(parts.hyper_prior.likelihood(z, point)).sum()
    outputs = parts.tail(split) if parts.tail is not None else {}
    return {
        "stem": seen.stem,
        "trunk": seen.trunk,
        "y": y,
        "z_symbols": z,
        "sigma_index": index,
        "symbols": symbols,
        "feature": feature,
        "split": split,
        "bits": bits,
        **outputs,
    }


def _compare(name: str, found: Tensor, stated: Tensor) -> None:
    stage = name.partition(".")[2]
    if found.shape != stated.shape:
        raise TrainingError(f"{name} is {tuple(found.shape)} here and {tuple(stated.shape)} in the file")
    wanted = stated.float()
    if stage == "z_symbols":
        differing = int((found != wanted).sum())
        limit = 0
    elif stage == "sigma_index":
        tie = ((wanted - torch.floor(wanted)) - 0.5).abs() < TIE
        differing = int(((torch.floor(found + 0.5) != torch.floor(wanted + 0.5)) & ~tie).sum())
        limit = 0
    elif stage == "symbols":
        differing = int((found != wanted).sum())
        limit = int(SYMBOL_SHARE * found.numel())
    else:
        gap = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-9))
        if not gap <= FLOAT_GAP:
            raise TrainingError(f"{name} is off by {gap:.1e} of its largest magnitude; limit {FLOAT_GAP:.0e}")
        return
    if differing > limit:
        raise TrainingError(f"{name} differs in {differing} of {found.numel()} numbers; limit {limit}")

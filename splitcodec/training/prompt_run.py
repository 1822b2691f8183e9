"""Stage 2: one task's prompts, gains, z tables, feature adapter and tail, on a frozen universal codec.

    splitcodec train prompt --codec final.safetensors --data photos-00.tar --teacher yolox.onnx --out runs/d

Loss per sample: lambda_k * bits per pixel + feature_weight * feature_error(h, h^) + deep_weight * deep_error
+ head_weight * (objectness + classes + boxes), all against the frozen teacher (no labels are used).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.codec_run import (
    TrainingInputs,
    build_parts,
    default_device,
    per_point,
    rate_plan,
    run_of,
    teacher_setting,
    trainable,
)
from splitcodec.training.loop import StepResult, Trainer
from splitcodec.training.losses import deep_error, detection_errors, feature_error
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import YOLOX, NamedOutputs, new_tail


@dataclass(frozen=True)
class TaskParts:
    """A frozen codec and everything stage 2 trains."""

    codec: FeatureCodec
    prompt: TaskPrompt
    gains: RateGains
    hyper_prior: HyperPrior
    adapter: FeatureAdapter
    tail: NamedOutputs

    def trained(self) -> dict[str, nn.Module]:
        """Checkpoint name -> module."""
        return {
            "prompt": self.prompt,
            "gains": self.gains,
            "hyper_prior": self.hyper_prior,
            "adapter": self.adapter,
            "tail": self.tail,
        }


def task_parts(sizes: CodecSizes, codec_file: Path, teacher_file: Path, device: torch.device) -> TaskParts:
    """Stage 1's codec, frozen; its gains, z densities and adapter to go on from; the teacher's tail."""
    parts = build_parts(sizes, YOLOX.split_channels, device)
    load_modules(codec_file, parts.trained())
    tail = new_tail(teacher_file, YOLOX).to(device)
    codec = parts.codec.requires_grad_(False)
    prompt = parts.prompt.requires_grad_(True)
    return TaskParts(codec, prompt, parts.gains, parts.hyper_prior, parts.adapter, tail)


def train_prompt(recipe: Recipe, inputs: TrainingInputs) -> None:
    """Run stage 2 on the codec in inputs.start; resumes, and ends with folder/final.safetensors."""
    if inputs.start is None:
        raise TrainingError(
            "stage 2 needs a trained codec: give the final.safetensors of a codec run as start"
        )
    torch.manual_seed(recipe.seed)
    device = default_device()
    setting = teacher_setting(recipe, inputs, device)
    parts = task_parts(SIZES[recipe.sizes], inputs.start, inputs.teacher_file, device)
    points, lambdas = rate_plan(recipe, device)
    pixels = recipe.crop * recipe.crop

    def measure(image: Tensor, target: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)
        feature = parts.adapter(coded.feature)
        outputs = parts.tail(feature)
        objectness, classes, boxes = detection_errors(outputs, wanted, YOLOX)
        return {
            "bpp": coded.bits / pixels,
            "feature": feature_error(feature, target, setting.statistics),
            "deep": deep_error(outputs, wanted, YOLOX.deep),
            "obj": objectness,
            "cls": classes,
            "box": boxes,
        }

    run_measure = torch.compile(measure) if inputs.compiled else measure
    run_targets = setting.compiled_targets(inputs.compiled, deep=True)

    def step(rate_term: float) -> StepResult:
        image = setting.crops.next().to(device)
        target, wanted = run_targets(image)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = run_measure(image, target, wanted)
        head = terms["obj"] + terms["cls"] + terms["box"]
        loss = rate_term * lambdas * terms["bpp"] + recipe.feature_weight * terms["feature"]
        loss = loss + recipe.deep_weight * terms["deep"] + recipe.head_weight * head
        return StepResult(loss.mean(), {name: per_point(value, points) for name, value in terms.items()})

    Trainer(run_of(recipe, inputs), parts.trained(), parameter_groups(recipe, parts)).train(step)


def parameter_groups(recipe: Recipe, parts: TaskParts) -> list[dict[str, object]]:
    """What the optimiser moves: everything trained, the tail at its own learning rate."""
    tail = list(parts.tail.parameters())
    ids = {id(p) for p in tail}
    fresh = [p for p in trainable(parts.trained()) if id(p) not in ids]
    return [
        {"params": fresh, "lr": recipe.learning_rate},
        {"params": tail, "lr": recipe.learning_rate * recipe.tail_rate},
    ]

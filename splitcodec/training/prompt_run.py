"""Stage 2: one task's prompts, gains, z tables, feature adapter and tail, on a frozen universal codec.

    splitcodec train prompt --task detect --codec runs/codec --photos ... --teacher yolox_nano_coco80.onnx

Loss per sample: lambda_k * bits per pixel + feature_weight * feature_error(h, h^) + deep_weight * deep_error
+ head_weight * (objectness + classes + boxes), all against the frozen teacher (no labels are used).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.models.codec import CodedFeature, FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.codec_run import build_parts, default_device, per_point, rate_plan
from splitcodec.training.losses import deep_error, detection_errors, feature_error
from splitcodec.training.loop import Run, StepResult, Trainer
from splitcodec.training.photos import PhotoCrops, read_photos
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import YOLOX, NamedOutputs, Teacher, new_tail, split_statistics


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
    """Stage 1's codec, frozen, and copies of its gains, z densities and adapter to go on from; the teacher's tail."""
    parts = build_parts(sizes, YOLOX.split_channels, device)
    load_modules(codec_file, parts.trained())
    tail = new_tail(teacher_file, YOLOX).to(device)
    codec = parts.codec.requires_grad_(False)
    prompt = parts.prompt.requires_grad_(True)
    return TaskParts(codec, prompt, parts.gains, parts.hyper_prior, parts.adapter, tail)


def train_prompt(
    recipe: Recipe, codec_file: Path, photos: list[Path], teacher_file: Path, folder: Path, max_minutes: float | None
) -> None:
    """Run stage 2; resumes from folder/checkpoint.safetensors, ends with folder/final.safetensors."""
    torch.manual_seed(recipe.seed + 1)
    device = default_device()
    teacher = Teacher(teacher_file, YOLOX)
    crops = PhotoCrops(read_photos(photos), recipe.crop, recipe.batch, recipe.seed + 1)
    statistics = split_statistics(teacher, [crops.next() for _ in range(12)])
    statistics = type(statistics)(statistics.variance.to(device), statistics.sensitivity.to(device))
    teacher = teacher.to(device)
    parts = task_parts(SIZES[recipe.sizes], codec_file, teacher_file, device)
    points, lambdas = rate_plan(recipe, device)
    pixels = recipe.crop * recipe.crop

    def encode(image: Tensor) -> CodedFeature:
        return parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)

    def step(rate_term: float) -> StepResult:
        image = crops.next().to(device)
        with torch.no_grad():
            target = teacher.split(image)
            wanted = teacher.tail(target)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            coded = encode(image)
            feature = parts.adapter(coded.feature)
            outputs = parts.tail(feature)
        bpp = coded.bits / pixels
        near = feature_error(feature, target, statistics)
        deep = deep_error(outputs, wanted, YOLOX.deep)
        objectness, classes, boxes = detection_errors(outputs, wanted, YOLOX)
        head = objectness + classes + boxes
        distortion = recipe.feature_weight * near + recipe.deep_weight * deep + recipe.head_weight * head
        terms = {"bpp": bpp, "feature": near, "deep": deep, "obj": objectness, "cls": classes, "box": boxes}
        return StepResult(
            (rate_term * lambdas * bpp + distortion).mean(), {k: per_point(v, points) for k, v in terms.items()}
        )

    trained = parts.trained()
    tail = {id(p) for p in parts.tail.parameters()}
    fresh = [p for m in trained.values() for p in m.parameters() if p.requires_grad and id(p) not in tail]
    groups: list[dict[str, object]] = [
        {"params": fresh, "lr": recipe.learning_rate},
        {"params": list(parts.tail.parameters()), "lr": recipe.learning_rate * recipe.tail_rate},
    ]
    run = Run(folder, recipe.steps, recipe.batch, max_minutes, recipe.warm_up_share)
    Trainer(run, trained, groups).train(step)

"""Stage 1 and 1b: the universal codec, trained once with the image extractor and the teacher's split feature.

    splitcodec train codec --recipe nano --photos photos-00.tar --photos photos-01.tar --teacher yolox_nano_coco80.onnx

Loss per sample: lambda_k * bits per pixel + image_weight * MSE(x, x^) + feature_weight * feature_error(h, h^).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter, ImageExtractor
from splitcodec.training.loop import Run, StepResult, Trainer
from splitcodec.training.losses import feature_error
from splitcodec.training.photos import PhotoCrops, read_photos
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import YOLOX, Teacher, split_statistics


@dataclass(frozen=True)
class CodecParts:
    """Everything stage 1 trains, plus the zero prompt it runs with."""

    codec: FeatureCodec
    gains: RateGains
    hyper_prior: HyperPrior
    extractor: ImageExtractor
    adapter: FeatureAdapter
    prompt: TaskPrompt

    def trained(self) -> dict[str, nn.Module]:
        """Checkpoint name -> module."""
        return {
            "codec": self.codec,
            "gains": self.gains,
            "hyper_prior": self.hyper_prior,
            "extractor": self.extractor,
            "adapter": self.adapter,
        }


def build_parts(sizes: CodecSizes, teacher_channels: int, device: torch.device) -> CodecParts:
    """Fresh networks; the prompt's last layers are zero, so it does nothing."""
    return CodecParts(
        FeatureCodec(sizes).to(device),
        RateGains(sizes).to(device),
        HyperPrior(sizes).to(device),
        ImageExtractor(sizes.feature_channels).to(device),
        FeatureAdapter(sizes.feature_channels, teacher_channels).to(device),
        TaskPrompt(sizes).to(device).requires_grad_(False),
    )


def rate_plan(recipe: Recipe, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rate point of each sample, lowest rate first, and its lambda: (batch,) int64 and float32."""
    points = len(recipe.lambdas)
    if recipe.batch % points:
        raise ValueError(f"batch {recipe.batch} is not a multiple of the {points} rate points of recipe {recipe.name}")
    order = torch.arange(points, device=device).repeat_interleave(recipe.batch // points)
    return order, torch.tensor(recipe.lambdas, device=device)[order]


def default_device() -> torch.device:
    """CUDA when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train_codec(
    recipe: Recipe, photos: list[Path], teacher_file: Path, folder: Path, max_minutes: float | None, compiled: bool = True
) -> None:
    """Run stage 1/1b; resumes from folder/checkpoint.safetensors, ends with folder/final.safetensors."""
    torch.manual_seed(recipe.seed)
    device = default_device()
    sizes = SIZES[recipe.sizes]
    teacher = Teacher(teacher_file, YOLOX)
    crops = PhotoCrops(read_photos(photos), recipe.crop, recipe.batch, recipe.seed)
    statistics = split_statistics(teacher, [crops.next() for _ in range(12)])
    statistics = type(statistics)(statistics.variance.to(device), statistics.sensitivity.to(device))
    teacher = teacher.to(device)
    parts = build_parts(sizes, YOLOX.split_channels, device)
    points, lambdas = rate_plan(recipe, device)
    pixels = recipe.crop * recipe.crop

    def forward(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)
        picture = parts.extractor(coded.feature)
        image_error = (picture - (image * (1.0 / 127.5) - 1.0)).square().mean(dim=(1, 2, 3))
        return coded.bits / pixels, feature_error(parts.adapter(coded.feature), target, statistics), image_error

    run_forward = torch.compile(forward) if compiled else forward

    def step(rate_term: float) -> StepResult:
        image = crops.next().to(device)
        with torch.no_grad():
            target = teacher.split(image)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            bpp, feature, picture = run_forward(image, target)
        loss = rate_term * lambdas * bpp + recipe.feature_weight * feature + recipe.image_weight * picture
        return StepResult(
            loss.mean(),
            {"bpp": per_point(bpp, points), "feature": per_point(feature, points), "mse": per_point(picture, points)},
        )

    trained = parts.trained()
    groups: list[dict[str, object]] = [
        {"params": [p for m in trained.values() for p in m.parameters() if p.requires_grad], "lr": recipe.learning_rate}
    ]
    run = Run(folder, recipe.steps, recipe.batch, max_minutes, recipe.warm_up_share)
    Trainer(run, trained, groups).train(step)


def per_point(values: Tensor, points: Tensor) -> list[float]:
    """Mean of the values at each rate point, for the log."""
    count = int(points.max()) + 1
    return [round(float(values.detach()[points == k].mean()), 5) for k in range(count)]

"""Stage 1 and 1b: the universal codec, trained once with the image extractor and the teacher's split feature.

    splitcodec train codec --recipe nano --data photos-00.tar --teacher yolox.onnx --out runs/codec

Loss per sample: lambda_k * bits per pixel + image_weight * MSE(x, x^) + feature_weight * feature_error(h, h^)
+ deep_weight * deep_error through the frozen teacher's own layers behind the split. Recipe `nano` has no deep
term; `nano-deep` goes on from it with one (Entropic Student distils layers 1-4, not the split alone).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter, ImageExtractor
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.loop import Run, StepResult, Trainer
from splitcodec.training.losses import deep_error, feature_error
from splitcodec.training.photos import PhotoCrops, read_photos
from splitcodec.training.recipes import Recipe
from splitcodec.training.revive import revive_channels
from splitcodec.training.teacher import YOLOX, SplitStatistics, Teacher, split_statistics


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
        raise TrainingError(
            f"batch {recipe.batch} is not a multiple of the {points} rate points of recipe {recipe.name}; "
            "each needs as many crops"
        )
    order = torch.arange(points, device=device).repeat_interleave(recipe.batch // points)
    return order, torch.tensor(recipe.lambdas, device=device)[order]


def default_device() -> torch.device:
    """CUDA when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class TrainingInputs:
    """Files a run reads, where it writes, and how long it may take.

    start: weights of an earlier run to go on from.
    """

    photos: list[Path]
    teacher_file: Path
    folder: Path
    max_minutes: float | None = None
    start: Path | None = None
    compiled: bool = True


def train_codec(recipe: Recipe, inputs: TrainingInputs) -> None:
    """Run stage 1/1b; resumes from folder/checkpoint.safetensors, ends with folder/final.safetensors."""
    torch.manual_seed(recipe.seed)
    device = default_device()
    setting = teacher_setting(recipe, inputs, device)
    parts = build_parts(SIZES[recipe.sizes], YOLOX.split_channels, device)
    if inputs.start is not None:
        load_modules(inputs.start, parts.trained())
    if recipe.revive:
        revived = revive_channels(parts.codec, parts.gains, parts.prompt, setting.crops.next().to(device))
        tqdm.write(f"revived {revived} of {parts.codec.sizes.latent_channels} latent channels")
    points, lambdas = rate_plan(recipe, device)
    pixels = recipe.crop * recipe.crop

    def measure(image: Tensor, target: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)
        picture = parts.extractor(coded.feature)
        image_error = (picture - (image * (1.0 / 127.5) - 1.0)).square().mean(dim=(1, 2, 3))
        feature = parts.adapter(coded.feature)
        near = feature_error(feature, target, setting.statistics)
        terms = {"bpp": coded.bits / pixels, "feature": near, "mse": image_error}
        if recipe.deep_weight:
            terms["deep"] = deep_error(setting.teacher.tail(feature), wanted, YOLOX.deep)
        return terms

    run_measure = torch.compile(measure) if inputs.compiled else measure
    run_targets = setting.compiled_targets(inputs.compiled, deep=recipe.deep_weight > 0)

    def step(rate_term: float) -> StepResult:
        image = setting.crops.next().to(device)
        target, wanted = run_targets(image)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = run_measure(image, target, wanted)
        loss = rate_term * lambdas * terms["bpp"] + recipe.feature_weight * terms["feature"]
        loss = loss + recipe.image_weight * terms["mse"]
        if recipe.deep_weight:
            loss = loss + recipe.deep_weight * terms["deep"]
        return StepResult(loss.mean(), {name: per_point(value, points) for name, value in terms.items()})

    trained = parts.trained()
    groups: list[dict[str, object]] = [{"params": trainable(trained), "lr": recipe.learning_rate}]
    Trainer(run_of(recipe, inputs), trained, groups).train(step)


def trainable(modules: dict[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters that learn, in the order of the modules."""
    return [p for module in modules.values() for p in module.parameters() if p.requires_grad]


def run_of(recipe: Recipe, inputs: TrainingInputs) -> Run:
    """The loop's settings from a recipe and what the command line gave."""
    return Run(
        inputs.folder,
        recipe.steps,
        recipe.batch,
        inputs.max_minutes,
        recipe.warm_up_share,
        recipe.name,
        recipe.seed,
        inputs.start,
    )


@dataclass(frozen=True)
class TeacherSetting:
    """The frozen teacher, the crops it is shown, and what its split tensor looks like on them."""

    teacher: Teacher
    crops: PhotoCrops
    statistics: SplitStatistics

    def compiled_targets(
        self, compiled: bool, deep: bool
    ) -> Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]:
        """image -> the split tensor and, if `deep`, everything behind it; no gradients."""

        @torch.no_grad()
        def targets(image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            target = self.teacher.split(image)
            return target, self.teacher.tail(target) if deep else {}

        return torch.compile(targets) if compiled else targets


def teacher_setting(recipe: Recipe, inputs: TrainingInputs, device: torch.device) -> TeacherSetting:
    """Load photos and teacher; measure the split tensor's statistics on 12 batches."""
    teacher = Teacher(inputs.teacher_file, YOLOX)
    crops = PhotoCrops(read_photos(inputs.photos), recipe.crop, recipe.batch, recipe.seed)
    measured = split_statistics(teacher, [crops.next() for _ in range(12)])
    statistics = SplitStatistics(measured.variance.to(device), measured.sensitivity.to(device))
    return TeacherSetting(teacher.to(device), crops, statistics)


def per_point(values: Tensor, points: Tensor) -> list[float]:
    """Mean of the values at each rate point, for the log."""
    count = int(points.max()) + 1
    return [round(float(values.detach()[points == k].mean()), 5) for k in range(count)]

"""Stage 1 and 1b: the universal codec, trained once with the image extractor and the teacher's split feature.

    splitcodec train codec --recipe nano --data photos-00.tar --teacher yolox.onnx --out runs/codec

Loss per sample: lambda_k * bits per pixel + image_weight * MSE(x, x^) + feature_weight * feature_error(h, h^)
+ aside_weight * the same for each teacher given with --also + deep_weight * deep_error through the frozen
teacher's own layers behind the split (Entropic Student distils layers 1-4, not the split alone).
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
from splitcodec.training.crops import Crops
from splitcodec.training.loop import StepResult, Trainer
from splitcodec.training.losses import deep_error, feature_error
from splitcodec.training.ranks import join_ranks
from splitcodec.training.recipes import Recipe
from splitcodec.training.setting import (
    STATISTICS_BATCHES,
    TeacherSetting,
    TrainingInputs,
    default_device,
    on,
    run_of,
    teacher_setting,
)
from splitcodec.training.start import start_from_teacher
from splitcodec.training.teacher import (
    SplitStatistics,
    Teacher,
    TeacherSource,
    TeacherSpec,
    open_teacher,
    split_statistics,
)

ASIDE_STRIDE = 2  # further teachers see one crop of each rate point: their heads cost more than the codec


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


def build_parts(
    sizes: CodecSizes, teacher_channels: int, device: torch.device, teacher_stride: int = 8
) -> CodecParts:
    """Fresh networks; the prompt's last layers are zero, so it does nothing."""
    return CodecParts(
        on(device, FeatureCodec(sizes)),
        on(device, RateGains(sizes)),
        on(device, HyperPrior(sizes)),
        on(device, ImageExtractor(sizes.feature_channels)),
        on(device, FeatureAdapter(sizes.feature_channels, teacher_channels, teacher_stride)),
        on(device, TaskPrompt(sizes).requires_grad_(False)),
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


def train_codec(recipe: Recipe, inputs: TrainingInputs) -> None:
    """Run stage 1/1b; resumes from folder/checkpoint.safetensors, ends with folder/final.safetensors."""
    torch.manual_seed(recipe.seed)
    device = default_device()
    with teacher_setting(recipe, inputs, device) as setting:
        _train(recipe, inputs, setting, device)


def _train(recipe: Recipe, inputs: TrainingInputs, setting: TeacherSetting, device: torch.device) -> None:
    spec = setting.teacher.spec
    parts = build_parts(SIZES[recipe.sizes], spec.split_channels, device, spec.stride)
    asides = [Aside.of(source, setting.crops, parts.codec.sizes, device) for source in inputs.also]
    trained = parts.trained() | {f"adapter_{aside.spec.task}": aside.adapter for aside in asides}
    if inputs.start is not None:
        load_modules(inputs.start, trained)
    elif recipe.from_teacher:
        if not isinstance(inputs.teacher, Path):
            raise TrainingError(f"recipe {recipe.name} starts g_a from a YOLOX file, not {inputs.teacher}")
        crops = [setting.crops.next() for _ in range(STATISTICS_BATCHES)]
        errors = start_from_teacher(parts.codec, parts.gains, setting.statistics, inputs.teacher, crops)
        tqdm.write(f"g_a starts from {inputs.teacher.name}, expected feature errors {errors}")
    measure = _stage1_terms(recipe, setting, parts, asides)
    run_measure = torch.compile(measure) if inputs.compiled else measure
    run_targets = setting.compiled_targets(inputs.compiled, deep=recipe.deep_weight > 0)
    points, lambdas = rate_plan(recipe, device)

    def step(rate_term: float, progress: float) -> StepResult:
        image = setting.crops.next().to(device)
        target, wanted = run_targets(image)
        beside = [aside.target(image) for aside in asides]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = run_measure(image, target, wanted, beside, progress < recipe.soft_share)
        loss = rate_term * lambdas * terms["bpp"] + recipe.feature_weight * terms["feature"]
        loss = loss + recipe.image_weight * terms["mse"]
        for name, weight in (("aside", recipe.aside_weight), ("deep", recipe.deep_weight)):
            if name in terms:
                loss = loss + weight * terms[name]
        return StepResult(loss.mean(), {name: per_point(value, points) for name, value in terms.items()})

    run = run_of(recipe, inputs, setting.photos)
    Trainer(run, trained, codec_groups(recipe, parts.codec, trained)).train(step)


Terms = dict[str, Tensor]


def _stage1_terms(
    recipe: Recipe, setting: TeacherSetting, parts: CodecParts, asides: list[Aside]
) -> Callable[[Tensor, Tensor, Terms, list[Tensor], bool], Terms]:
    points, _ = rate_plan(recipe, setting.statistics.variance.device)
    pixels = recipe.crop * recipe.crop

    def measure(image: Tensor, target: Tensor, wanted: Terms, beside: list[Tensor], soft: bool) -> Terms:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior, soft)
        picture = parts.extractor(coded.feature)
        feature = parts.adapter(coded.feature)
        terms = {
            "bpp": coded.bits / pixels,
            "feature": feature_error(feature, target, setting.statistics),
            "mse": (picture - (image * (1.0 / 127.5) - 1.0)).square().mean(dim=(1, 2, 3)),
        }
        for aside, other in zip(asides, beside, strict=True):
            near = feature_error(aside.adapter(coded.feature[::ASIDE_STRIDE]), other, aside.statistics)
            terms["aside"] = terms.get("aside", 0.0) + near.repeat_interleave(ASIDE_STRIDE)
        if recipe.deep_weight:
            terms["deep"] = deep_error(setting.teacher.tail(feature), wanted, setting.teacher.spec.deep)
        return terms

    return measure


@dataclass(frozen=True)
class Aside:
    """A further teacher in stage 1: what it reads must be in the codec's feature too."""

    spec: TeacherSpec
    teacher: Teacher
    adapter: FeatureAdapter
    statistics: SplitStatistics

    @staticmethod
    def of(source: TeacherSource, crops: Crops, sizes: CodecSizes, device: torch.device) -> Aside:
        """Load it, measure its split tensor on some crops, make its adapter."""
        teacher = open_teacher(source)
        spec = teacher.spec
        statistics = split_statistics(teacher, [crops.next() for _ in range(STATISTICS_BATCHES)])
        statistics = statistics.to(device)
        join_ranks().average([statistics.variance, statistics.sensitivity])
        adapter = on(device, FeatureAdapter(sizes.feature_channels, spec.split_channels, spec.stride))
        return Aside(spec, on(device, teacher), adapter, statistics)

    @torch.no_grad()
    def target(self, image: Tensor) -> Tensor:
        """image (N, 3, S, S) -> its split tensor on every second crop."""
        return self.teacher.split(image[::ASIDE_STRIDE])


def codec_groups(
    recipe: Recipe, codec: FeatureCodec, trained: dict[str, nn.Module]
) -> list[dict[str, object]]:
    """What the optimiser moves: everything trained, g_a at its own learning rate."""
    head = trainable({"g_a": codec.g_a})
    ids = {id(p) for p in head}
    rest = [p for p in trainable(trained) if id(p) not in ids]
    return [
        {"params": rest, "lr": recipe.learning_rate},
        {"params": head, "lr": recipe.learning_rate * recipe.head_rate},
    ]


def trainable(modules: dict[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters that learn, in the order of the modules."""
    return [p for module in modules.values() for p in module.parameters() if p.requires_grad]


def per_point(values: Tensor, points: Tensor) -> list[float]:
    """Mean of the values at each rate point, for the log."""
    count = int(points.max()) + 1
    return [round(float(values.detach()[points == k].mean()), 5) for k in range(count)]

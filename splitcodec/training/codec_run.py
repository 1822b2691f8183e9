"""Stage 1 and 1b: the universal codec, trained once with the image extractor and the teacher's split feature.

    splitcodec train codec --recipe base2 --start runs/start/final.safetensors --data photos-00.tar \\
        --teacher yolox.onnx --also deeplab.onnx --also mobilenet.onnx --out runs/base2

Loss per sample: lambda_k * bits per pixel + image_weight * MSE(x, x^) + feature_weight * feature_error(h, h^)
+ deep_weight * deep_error + head_weight * the terms on the outputs, both through the frozen teacher's own
layers behind the split (Entropic Student distils layers 1-4, not the split alone) + aside_weight * the deep
and feature terms of one teacher given with --also, in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter, ImageExtractor
from splitcodec.training.checkpoint import load_modules
from splitcodec.training.crops import Crops
from splitcodec.training.loop import StepResult, Trainer
from splitcodec.training.losses import deep_error, feature_error, output_errors
from splitcodec.training.ranks import join_ranks
from splitcodec.training.recipes import Recipe
from splitcodec.training.setting import (
    STATISTICS_BATCHES,
    TeacherSetting,
    TrainingInputs,
    bfloat16_where_fast,
    default_device,
    on,
    run_of,
    teacher_setting,
)
from splitcodec.training.teacher import (
    SplitStatistics,
    Teacher,
    TeacherSource,
    TeacherSpec,
    open_teacher,
    split_statistics,
)


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
    elif recipe.needs_start:
        raise TrainingError(
            f"recipe {recipe.name} goes on from `splitcodec train start`; give what that wrote as --start"
        )
    parts.codec.g_a.stem.requires_grad_(recipe.stem_learns)
    measure = _stage1_terms(recipe, setting, parts)
    run_measure = torch.compile(measure) if inputs.compiled else measure
    deep = recipe.deep_weight > 0 or recipe.head_weight > 0
    run_targets = setting.compiled_targets(inputs.compiled, deep, coarse=True)
    points, lambdas = rate_plan(recipe, device)
    turns = itertools.cycle(asides or [None])

    def step(rate_term: float, progress: float) -> StepResult:
        image = setting.crops.next().to(device)
        target, wanted = run_targets(image)
        aside = next(turns)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms, feature = run_measure(image, target, wanted)
            if aside is not None and recipe.aside_weight:
                terms["aside"] = aside.error(feature, image, recipe.aside_feature_weight)
        loss = rate_term * lambdas * terms["bpp"]
        for name, value in terms.items():
            loss = loss + weight_of(recipe, name) * value
        return StepResult(loss.mean(), {name: per_point(value, points) for name, value in terms.items()})

    run = run_of(recipe, inputs, setting.photos)
    Trainer(run, trained, codec_groups(recipe, parts, trained)).train(step)


Terms = dict[str, Tensor]


def weight_of(recipe: Recipe, name: str) -> float:
    """Weight of a term of stage 1; what is neither rate nor known by name is a term on the outputs."""
    known = {
        "bpp": 0.0,  # weighed per sample, by lambda
        "mse": recipe.image_weight,
        "feature": recipe.feature_weight,
        "deep": recipe.deep_weight,
        "aside": recipe.aside_weight,
    }
    return known.get(name, recipe.head_weight)


def _stage1_terms(
    recipe: Recipe, setting: TeacherSetting, parts: CodecParts
) -> Callable[[Tensor, Tensor, Terms], tuple[Terms, Tensor]]:
    """The terms of one pass, each (N,), and h^ without its gradient cut, for a further teacher."""
    points, _ = rate_plan(recipe, setting.statistics.variance.device)
    pixels, spec = recipe.crop * recipe.crop, setting.teacher.spec

    def measure(image: Tensor, target: Tensor, wanted: Terms) -> tuple[Terms, Tensor]:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)
        picture = parts.extractor(coded.feature)
        feature = parts.adapter(coded.feature)
        terms = {
            "bpp": coded.bits / pixels,
            "feature": feature_error(feature, target, setting.statistics),
            "mse": (picture - (image * (1.0 / 127.5) - 1.0)).square().mean(dim=(1, 2, 3)),
        }
        if wanted:
            found = setting.teacher.tail(feature)
            terms["deep"] = deep_error(found, wanted, spec.deep)
            terms.update(output_errors(found, wanted, spec) if recipe.head_weight else {})
        return terms, coded.feature

    return measure


@dataclass(frozen=True)
class Aside:
    """A further teacher in stage 1: what it reads, and what its next layers make of it, must be in h^ too."""

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

    def error(self, feature: Tensor, image: Tensor, feature_weight: float) -> Tensor:
        """h^, the crops -> deep_error of the first inner tensor + feature_weight * feature_error, (N,)."""
        deep = self.spec.deep[:1]
        with torch.no_grad(), bfloat16_where_fast(image.device):
            target = self.teacher.split(image)
            wanted = self.teacher.near(target) if deep else {}
        split = self.adapter(feature)
        error = feature_weight * feature_error(split, target.float(), self.statistics)
        if deep:
            wanted = {name: value.float() for name, value in wanted.items()}
            error = error + deep_error(self.teacher.near(split), wanted, deep)
        return error


def codec_groups(recipe: Recipe, parts: CodecParts, trained: dict[str, nn.Module]) -> list[dict[str, object]]:
    """What the optimiser moves: everything trained; gains and what the linear start set at their own rates.

    The linear start set g_a.lin, g_s.lin and the first teacher's adapter; the last layers of the residual
    paths beside them go at the same pace, or they would outrun it.
    """
    analysis, synthesis = parts.codec.g_a, parts.codec.g_s
    linear = (analysis.lin, synthesis.lin, analysis.out, synthesis.out, parts.adapter)
    careful = trainable({str(i): module for i, module in enumerate(linear)})
    gains = trainable({"gains": parts.gains})
    ids = {id(p) for p in (*careful, *gains)}
    rest = [p for p in trainable(trained) if id(p) not in ids]
    rates = ((rest, 1.0), (careful, recipe.linear_rate), (gains, recipe.gain_rate))
    return [{"params": some, "lr": recipe.learning_rate * rate} for some, rate in rates if some]


def trainable(modules: dict[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters that learn, in the order of the modules."""
    return [p for module in modules.values() for p in module.parameters() if p.requires_grad]


def per_point(values: Tensor, points: Tensor) -> list[float]:
    """Mean of the values at each rate point, for the log."""
    count = int(points.max()) + 1
    return [round(float(values.detach()[points == k].mean()), 5) for k in range(count)]

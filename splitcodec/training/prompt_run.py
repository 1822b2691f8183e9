"""Stage 2: one task's prompts, gains, z tables, feature adapter and tail, on a frozen universal codec.

    splitcodec train prompt --codec final.safetensors --data photos-00.tar --teacher yolox.onnx --out runs/d

Loss per sample: lambda_k * bits per pixel + feature_weight * feature_error(h, h^) + deep_weight * deep_error
+ head_weight * the terms on the task's outputs, all against the frozen teacher (no labels are used); with
`--losses paper` the paper's (1) or (2), which needs COCO labels (task_terms.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from splitcodec.errors import TrainingError
from splitcodec.models.codec import FeatureCodec, HyperPrior, RateGains
from splitcodec.models.prompts import TaskPrompt
from splitcodec.models.sizes import SIZES, CodecSizes
from splitcodec.models.transforms import FeatureAdapter
from splitcodec.training.adapter_start import fit_adapter
from splitcodec.training.checkpoint import fits, load_modules, module_names, tensor_names
from splitcodec.training.codec_run import build_parts, per_point, rate_plan, trainable
from splitcodec.training.cut import NamedOutputs
from splitcodec.training.labels import Truth
from splitcodec.training.loop import StepResult, Trainer
from splitcodec.training.pixels import PixelAdapter, Student
from splitcodec.training.recipes import Recipe
from splitcodec.training.setting import (
    STATISTICS_BATCHES,
    TeacherSetting,
    TrainingInputs,
    default_device,
    on,
    run_of,
    teacher_setting,
    validation_batches,
)
from splitcodec.training.task_terms import terms_of, weighted
from splitcodec.training.teacher import TeacherSource, TeacherSpec, new_tail, open_teacher, spec_of

HYPER_GROUPS = ("h_a", "h_s_mean", "h_s_scale")
# Which of stage 1's adapters a task goes on from; if the run had none, one is fitted.
STAGE1_ADAPTERS = {"detect": "adapter", "segment": "adapter_segment", "classify": "adapter_classify"}


@dataclass(frozen=True)
class TaskParts:
    """A frozen codec and everything stage 2 trains."""

    spec: TeacherSpec
    codec: FeatureCodec
    prompt: TaskPrompt
    gains: RateGains
    hyper_prior: HyperPrior
    adapter: FeatureAdapter | PixelAdapter
    tail: NamedOutputs
    is_new_to_codec: bool  # stage 1 did not see this teacher

    def trained(self) -> dict[str, nn.Module]:
        """Checkpoint name -> module."""
        return {
            "prompt": self.prompt,
            "gains": self.gains,
            "hyper_prior": self.hyper_prior,
            "adapter": self.adapter,
            "tail": self.tail,
        }


def task_parts(
    sizes: CodecSizes,
    codec_file: Path,
    teacher: TeacherSource,
    device: torch.device,
    student: Student = "feature",
) -> TaskParts:
    """Stage 1's codec, frozen; its gains, z densities and adapter to go on from; the teacher's tail.

    A `pixels` student keeps stage 1's extractor in place of the adapter, and its tail stays the teacher's.
    """
    spec = spec_of(teacher)
    parts = build_parts(sizes, spec.split_channels, device, spec.stride)
    stored = module_names(codec_file)
    modules = parts.trained()
    adapter = modules.pop("adapter")
    load_modules(codec_file, modules)
    name = STAGE1_ADAPTERS.get(spec.task, "")
    known = name in stored and fits(codec_file, name, adapter)
    if known:
        load_modules(codec_file, {name: adapter})
    tail = on(device, new_tail(teacher))
    codec = parts.codec.requires_grad_(False)
    prompt = parts.prompt.requires_grad_(True)
    reader: FeatureAdapter | PixelAdapter = parts.adapter
    if student == "pixels":
        reader = on(device, PixelAdapter(parts.extractor, open_teacher(teacher).split))
        tail.requires_grad_(False)
    return TaskParts(spec, codec, prompt, parts.gains, parts.hyper_prior, reader, tail, not known)


def student_of(task_file: Path) -> Student:
    """Which form of student a stage 2 run trained."""
    return "pixels" if "adapter/extractor.conv0.weight" in tensor_names(task_file) else "feature"


def train_prompt(recipe: Recipe, inputs: TrainingInputs) -> None:
    """Run stage 2 on the codec in inputs.start; resumes, and ends with folder/final.safetensors."""
    if inputs.start is None:
        raise TrainingError(
            "stage 2 needs a trained codec: give the final.safetensors of a codec run as start"
        )
    torch.manual_seed(recipe.seed)
    device = default_device()
    with teacher_setting(recipe, inputs, device) as setting:
        parts = task_parts(SIZES[recipe.sizes], inputs.start, inputs.teacher, device, inputs.student)
        _train(recipe, inputs, setting, parts)


def _train(recipe: Recipe, inputs: TrainingInputs, setting: TeacherSetting, parts: TaskParts) -> None:
    prepare_prompt(recipe, parts.prompt)
    if recipe.tail_rate == 0.0:
        parts.tail.requires_grad_(False)
    if parts.is_new_to_codec:
        start_adapter(parts, setting, recipe)
    step = step_of(recipe, inputs, setting, parts)
    check = None
    if inputs.validation:
        held_out = validation_batches(recipe, inputs)
        check = lambda: validation_loss(step, held_out)  # noqa: E731
    trainer = Trainer(
        run_of(recipe, inputs, setting.photos), parts.trained(), parameter_groups(recipe, parts)
    )
    trainer.train(lambda rate_term, progress: step(rate_term, *setting.crops.draw()), check)


Step = Callable[[float, Tensor, Truth | None], StepResult]


def step_of(recipe: Recipe, inputs: TrainingInputs, setting: TeacherSetting, parts: TaskParts) -> Step:
    """weight of the rate term, crops, their labels if the losses need them -> the loss and its terms."""
    device = setting.statistics.variance.device
    points, lambdas = rate_plan(recipe, device)
    terms = terms_of(recipe, parts.spec, setting.statistics)
    pixels = recipe.crop * recipe.crop

    def measure(
        image: Tensor, target: Tensor, wanted: dict[str, Tensor], truth: Truth | None
    ) -> dict[str, Tensor]:
        coded = parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior)
        feature = parts.adapter(coded.feature)
        return {"bpp": coded.bits / pixels, **terms(feature, target, parts.tail(feature), wanted, truth)}

    run_measure = torch.compile(measure) if inputs.compiled else measure
    run_targets = setting.compiled_targets(inputs.compiled, deep=True)

    def step(rate_term: float, image: Tensor, truth: Truth | None) -> StepResult:
        image = image.to(device)
        target, wanted = run_targets(image)
        labels = None if truth is None else truth.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = run_measure(image, target, wanted, labels)
        loss = rate_term * lambdas * found["bpp"] + weighted(recipe, found)
        return StepResult(loss.mean(), {name: per_point(value, points) for name, value in found.items()})

    return step


@torch.no_grad()
def validation_loss(step: Step, batches: list[tuple[Tensor, Truth | None]]) -> float:
    """Mean loss of the networks as they are, with the rate at full weight."""
    return sum(float(step(1.0, *batch).loss) for batch in batches) / len(batches)


@torch.no_grad()
def start_adapter(parts: TaskParts, setting: TeacherSetting, recipe: Recipe) -> None:
    """Fit a feature student's adapter to what the codec decodes before the first step."""
    if not isinstance(parts.adapter, FeatureAdapter):
        return
    points, _ = rate_plan(recipe, setting.statistics.variance.device)
    images = (setting.crops.next().to(points.device) for _ in range(STATISTICS_BATCHES))
    fit_adapter(
        parts.adapter,
        (
            (
                parts.codec(image, points, parts.gains, parts.prompt, parts.hyper_prior).feature,
                setting.teacher.split(image),
            )
            for image in images
        ),
    )


@torch.no_grad()
def prepare_prompt(recipe: Recipe, prompt: TaskPrompt) -> None:
    """What an ablation changes about the prompts before the first step."""
    if recipe.all_zero_start:
        for parameter in prompt.parameters():
            parameter.zero_()
    if not recipe.hyper_prompts:
        for group in HYPER_GROUPS:
            prompt.branches[group].requires_grad_(False)  # its last convolution is zero and stays so


def parameter_groups(recipe: Recipe, parts: TaskParts) -> list[dict[str, object]]:
    """What the optimiser moves: everything trained, tail and gains at their own learning rates."""
    tail, gains = trainable({"tail": parts.tail}), trainable({"gains": parts.gains})
    ids = {id(p) for p in (*tail, *gains)}
    fresh = [p for p in trainable(parts.trained()) if id(p) not in ids]
    rates = ((fresh, 1.0), (gains, recipe.gain_rate), (tail, recipe.tail_rate))
    return [{"params": some, "lr": recipe.learning_rate * rate} for some, rate in rates if some]

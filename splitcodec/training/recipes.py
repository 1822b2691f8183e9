"""Named recipes: every rate point, every weight and the length of a run, on one screen.

lambda multiplies bits per pixel: the largest belongs to rate point 0, the smallest rate. The rate term is
warmed up at the start of a run; at full weight from the first step a codec learns to send nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Losses = Literal["practical", "paper"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run."""

    name: str
    sizes: str
    steps: int
    lambdas: tuple[float, ...]
    learning_rate: float
    crop: int = 256
    scales: tuple[float, float] = (0.5, 1.2)  # of the stored photos, as a camera frame is scaled on its way
    mosaic_share: float = 0.2  # crops made of four photos
    batch: int = 8  # two crops per rate point
    seed: int = 42
    image_weight: float = 0.0  # stage 1: MSE of the extractor's picture, pixels in [-1, 1]
    feature_weight: float = 1.0  # stage 1b and 2: feature_error
    aside_weight: float = 0.0  # stage 1: one further teacher a step, in turn; its deep and feature terms
    aside_feature_weight: float = 0.1  # its feature_error, relative to its deep term
    deep_weight: float = 0.0  # inner tensors of the tail
    head_weight: float = 0.0  # the terms on the task's outputs
    tail_rate: float = 1.0  # stage 2: learning rate of the tail relative to the prompts'
    gain_rate: float = 1.0  # of the rate gains relative to the rest
    linear_rate: float = 1.0  # stage 1: of what the linear start has set, see codec_run.codec_groups
    stem_learns: bool = True  # stage 1
    needs_start: bool = False  # stage 1: from `splitcodec train start`, or from a run that went on from it
    warm_up_share: float = 1.0 / 3.0
    warm_up_from: float = 0.02  # weight of the rate term at the first step
    hyper_prompts: bool = True  # stage 2: prompts on h_a and h_s too
    all_zero_start: bool = False  # stage 2: all four convolutions of a prompt at zero, as the paper prints it
    losses: Losses = "practical"  # stage 2: see training/losses.py, or paper_losses.py, which needs labels
    epochs: float | None = None  # passes over the photos; `steps` then does not count


START = "start"  # what `splitcodec train start` calls its run
# Stage 1: the picture and three teachers at once. The tail behind the split says which errors matter; one
# further teacher a step, in turn, and the picture keep the codec universal. The shipped codec was trained by
# `base2` and then `base2-longer`, 5,222 and 5,587 steps of these in an hour each on two cores.
BASE2 = Recipe(
    "base2",
    "nano",
    steps=5_400,
    lambdas=(6.0, 2.2, 0.8, 0.3),
    learning_rate=8e-4,
    image_weight=0.3,
    feature_weight=0.1,
    aside_weight=0.5,
    deep_weight=1.0,
    head_weight=0.5,
    gain_rate=4.0,
    linear_rate=0.3,
    stem_learns=False,
    needs_start=True,
    warm_up_share=0.1,
    warm_up_from=0.1,
)
# The paper's stage 1 alone, without stage 1b: picture only, from random weights.
PAPER_STAGE1 = Recipe(
    "paper-stage1",
    "nano",
    steps=10_000,
    lambdas=(0.8, 0.3, 0.1, 0.035),
    learning_rate=1e-3,
    image_weight=1.0,
    feature_weight=0.0,
)
# Goes on from it (--start): the teacher's feature beside the picture, for a tenth of the steps.
PAPER_STAGE1B = replace(
    PAPER_STAGE1,
    name="paper-stage1b",
    steps=1_000,
    lambdas=(6.0, 3.0, 1.3, 0.5),
    learning_rate=1e-4,
    feature_weight=1.0,
    warm_up_share=0.02,
)
# A wider codec for edges with a GPU; meant for a large photo collection and a GPU.
BASE = replace(BASE2, name="base", sizes="base", steps=300_000, batch=16, learning_rate=5e-4)
STAGE1 = {
    "base2": BASE2,
    "base2-longer": replace(
        BASE2,
        name="base2-longer",
        steps=5_600,
        lambdas=(9.0, 4.0, 1.8, 0.7),
        seed=43,
        warm_up_share=0.001,
        warm_up_from=1.0,
    ),
    # Ablation: no residual prediction.
    "base2-without-lrcp": replace(BASE2, name="base2-without-lrcp", sizes="nano-without-lrcp"),
    # Ablation: g_a and everything else from random weights.
    "base2-from-scratch": replace(
        BASE2, name="base2-from-scratch", needs_start=False, linear_rate=1.0, stem_learns=True
    ),
    # Reference forms of the context: the paper's order in 24 steps, and scales from the context too. The
    # second one measures likelihoods only: its scales are floats, so it cannot be exported.
    "base2-quadrants": replace(BASE2, name="base2-quadrants", sizes="nano-quadrants"),
    "base2-mean-scale": replace(BASE2, name="base2-mean-scale", sizes="nano-mean-scale"),
    "base": BASE,
    "paper-stage1": PAPER_STAGE1,
    "paper-stage1b": PAPER_STAGE1B,
    "paper-base-stage1": replace(
        PAPER_STAGE1, name="paper-base-stage1", sizes="base", steps=300_000, batch=16, learning_rate=1e-4
    ),
    "paper-base-stage1b": replace(
        PAPER_STAGE1B, name="paper-base-stage1b", sizes="base", steps=30_000, batch=16
    ),
}
STARTED = {START} | {recipe.name for recipe in STAGE1.values() if recipe.needs_start}
DETECT2 = Recipe(
    "detect2",
    "nano",
    steps=3_700,
    lambdas=(9.0, 4.0, 1.8, 0.7),
    learning_rate=8e-4,
    seed=46,
    feature_weight=0.05,
    deep_weight=1.0,
    head_weight=0.5,
    tail_rate=0.0625,
    gain_rate=4.0,
    warm_up_share=0.02,
    warm_up_from=1.0,
)
STAGE2 = {
    "detect2": DETECT2,
    # Ablations of the prompts: without those on h_a and h_s, and with all four convolutions starting at zero.
    "detect2-without-hyper-prompts": replace(
        DETECT2, name="detect2-without-hyper-prompts", hyper_prompts=False
    ),
    "detect2-all-zero-start": replace(DETECT2, name="detect2-all-zero-start", all_zero_start=True),
    "segment2": replace(
        DETECT2,
        name="segment2",
        steps=2_000,
        lambdas=(14.0, 6.0, 2.5, 1.0),
        seed=47,
        head_weight=3.0,
        tail_rate=0.125,
    ),
    "classify2": replace(
        DETECT2,
        name="classify2",
        steps=2_200,
        lambdas=(8.0, 3.5, 1.5, 0.6),
        seed=48,
        tail_rate=0.125,
    ),
}
# Stage 2 of the paper, ten epochs over COCO on the `base` codec. The tail is the teacher's own and stays so;
# the paper leaves open whether it learns: `-with-tail` lets it. --losses paper takes (1) and (2) as printed.
RETINANET = Recipe(
    "retinanet",
    "base",
    steps=0,
    epochs=10.0,
    lambdas=(6.0, 3.0, 1.3, 0.5),
    learning_rate=1e-4,
    crop=512,
    seed=50,
    scales=(0.8, 2.0),
    mosaic_share=0.0,
    feature_weight=0.3,
    deep_weight=1.0,
    head_weight=1.0,
    tail_rate=0.0,
    warm_up_share=0.02,
)
DEEPLABV3 = replace(RETINANET, name="deeplabv3", crop=448, seed=51, feature_weight=0.5, deep_weight=0.5)
STAGE2 |= {
    "retinanet": RETINANET,
    "retinanet-with-tail": replace(RETINANET, name="retinanet-with-tail", tail_rate=0.2),
    "deeplabv3": DEEPLABV3,
    "deeplabv3-with-tail": replace(DEEPLABV3, name="deeplabv3-with-tail", tail_rate=0.2),
}
RECIPE_OF_TASK = {task: f"{task}2" for task in ("detect", "segment", "classify")}
RECIPE_OF_TEACHER = {"retinanet-r50": "retinanet", "deeplabv3-r50": "deeplabv3"}
# Stage 2 for a teacher of your own, whatever its task is called: a classifier's or segmenter's logits.
OWN_TEACHER = replace(STAGE2["segment2"], name="own-teacher", scales=(0.4, 1.25), seed=49)

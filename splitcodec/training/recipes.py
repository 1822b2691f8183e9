"""Named recipes: every rate point, every weight and the length of a run, on one screen.

lambda multiplies bits per pixel: the largest belongs to rate point 0, the smallest rate. The rate term is
warmed up from 2 % to full weight over the first third of a run; at full weight from the first step a codec
learns to send nothing.
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
    scales: tuple[float, float] = (0.35, 1.25)  # of the stored photos, as a camera frame is scaled on its way
    mosaic_share: float = 0.35  # crops made of four photos
    batch: int = 8  # two crops per rate point
    seed: int = 42
    image_weight: float = 0.0  # stage 1: MSE of the extractor's picture, pixels in [-1, 1]
    feature_weight: float = 1.0  # stage 1b and 2: feature_error
    aside_weight: float = 0.0  # stage 1: feature_error of each further teacher
    deep_weight: float = 0.0  # inner tensors of the tail
    head_weight: float = 0.0  # stage 2: the terms on the task's outputs
    tail_rate: float = 1.0  # learning rate of the tail relative to the prompts'
    head_rate: float = 1.0  # learning rate of g_a relative to the rest: lower where it starts from a teacher
    warm_up_share: float = 1.0 / 3.0
    soft_share: float = 0.0  # stage 1: share of the run in which y is not rounded but noisy
    from_teacher: bool = False  # stage 1: g_a starts as the teacher's layers and their principal components
    hyper_prompts: bool = True  # stage 2: prompts on h_a and h_s too
    all_zero_start: bool = False  # stage 2: all four convolutions of a prompt at zero, as the paper prints it
    losses: Losses = "practical"  # stage 2: see training/losses.py, or paper_losses.py, which needs labels
    epochs: float | None = None  # passes over the photos; `steps` then does not count


# Stage 1 and 1b in one run. The picture and further teachers' features keep the codec universal; the deeper
# layers of the first teacher say which errors matter (Entropic Student distils them too).
NANO = Recipe(
    "nano",
    "nano",
    steps=12_000,
    lambdas=(6.0, 3.0, 1.3, 0.5),
    learning_rate=2e-3,
    image_weight=0.5,
    aside_weight=0.25,
    deep_weight=1.0,
    head_rate=0.25,
    warm_up_share=0.15,
    soft_share=0.4,
    from_teacher=True,
)
# The paper's stage 1 alone, without stage 1b: picture only.
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
# A codec for edges with a GPU, on patches of the picture; meant for a large photo collection and a GPU.
BASE = replace(
    NANO,
    name="base",
    sizes="base",
    steps=300_000,
    batch=16,
    learning_rate=5e-4,
    from_teacher=False,
    head_rate=1.0,
)
STAGE1 = {
    "nano": NANO,
    # Goes on from `nano` (--start) with rounding only, at a lower learning rate.
    "nano-longer": Recipe(
        "nano-longer",
        "nano",
        steps=8_000,
        lambdas=(6.0, 3.0, 1.3, 0.5),
        learning_rate=1e-3,
        seed=43,
        image_weight=0.5,
        aside_weight=0.25,
        deep_weight=1.0,
        head_rate=0.25,
        warm_up_share=0.02,
    ),
    # Ablation: no residual prediction.
    "nano-without-lrcp": replace(NANO, name="nano-without-lrcp", sizes="nano-without-lrcp"),
    # Ablation: g_a and everything else from random weights.
    "nano-from-scratch": replace(NANO, name="nano-from-scratch", from_teacher=False, head_rate=1.0),
    # Reference forms of the context: the paper's order in 24 steps, and scales from the context too. The
    # second one measures likelihoods only: its scales are floats, so it cannot be exported.
    "nano-quadrants": replace(NANO, name="nano-quadrants", sizes="nano-quadrants"),
    "nano-mean-scale": replace(NANO, name="nano-mean-scale", sizes="nano-mean-scale"),
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
DETECT = Recipe(
    "detect",
    "nano",
    steps=3_000,
    lambdas=(5.0, 2.2, 0.9, 0.3),
    learning_rate=5e-4,
    seed=46,
    feature_weight=0.3,
    deep_weight=1.0,
    head_weight=1.0,
    tail_rate=0.2,
    warm_up_share=0.02,
)
STAGE2 = {
    "detect": DETECT,
    # Ablations of the prompts: without those on h_a and h_s, and with all four convolutions starting at zero.
    "detect-without-hyper-prompts": replace(DETECT, name="detect-without-hyper-prompts", hyper_prompts=False),
    "detect-all-zero-start": replace(DETECT, name="detect-all-zero-start", all_zero_start=True),
    "segment": Recipe(
        "segment",
        "nano",
        steps=2_000,
        lambdas=(6.0, 3.0, 1.3, 0.5),
        learning_rate=5e-4,
        seed=47,
        scales=(0.6, 1.4),
        mosaic_share=0.15,
        feature_weight=0.5,
        deep_weight=0.5,
        head_weight=1.0,
        tail_rate=0.2,
        warm_up_share=0.02,
    ),
    "classify": Recipe(
        "classify",
        "nano",
        steps=2_000,
        lambdas=(6.0, 3.0, 1.3, 0.5),
        learning_rate=5e-4,
        seed=48,
        scales=(0.4, 0.9),
        mosaic_share=0.0,
        feature_weight=0.5,
        deep_weight=0.5,
        head_weight=0.5,
        tail_rate=0.2,
        warm_up_share=0.02,
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
RECIPE_OF_TEACHER = {"retinanet-r50": "retinanet", "deeplabv3-r50": "deeplabv3"}
# Stage 2 for a teacher of your own, whatever its task is called: a classifier's or segmenter's logits.
OWN_TEACHER = replace(STAGE2["segment"], name="own-teacher", scales=(0.4, 1.25), seed=49)

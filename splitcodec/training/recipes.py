"""Named recipes: every rate point, every weight and the length of a run, on one screen.

lambda multiplies bits per pixel: the largest belongs to rate point 0, the smallest rate. The rate term is
warmed up from 2 % to full weight over the first third of a run; at full weight from the first step a codec
learns to send nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run."""

    name: str
    sizes: str
    steps: int
    lambdas: tuple[float, ...]
    learning_rate: float
    crop: int = 256
    batch: int = 8  # two crops per rate point
    seed: int = 42
    image_weight: float = 0.0  # stage 1: MSE of the extractor's picture, pixels in [-1, 1]
    feature_weight: float = 1.0  # stage 1b and 2: feature_error
    deep_weight: float = 0.0  # stage 2: inner tensors of the tail
    head_weight: float = 0.0  # stage 2: objectness, class and box terms
    tail_rate: float = 1.0  # learning rate of the tail relative to the prompts'
    warm_up_share: float = 1.0 / 3.0
    revive: bool = False  # bring latent channels back that never leave zero, before the first step


STAGE1 = {
    # Stage 1 and 1b in one run: the picture keeps the codec universal, the teacher's feature keeps h^ near h.
    "nano": Recipe(
        "nano",
        "nano",
        steps=10_000,
        lambdas=(3.2, 1.2, 0.42, 0.14),
        learning_rate=2e-3,
        image_weight=2.0,
    ),
    # Goes on from `nano` (--start): the deeper layers of the teacher say which feature errors matter.
    "nano-deep": Recipe(
        "nano-deep",
        "nano",
        steps=3_000,
        lambdas=(1.3, 0.5, 0.2, 0.07),
        learning_rate=2e-3,
        seed=43,
        image_weight=1.0,
        feature_weight=0.5,
        deep_weight=1.0,
    ),
    # Goes on from `nano-deep`, where 69 of 96 latent channels had under 1 % non-zero symbols.
    "nano-revived": Recipe(
        "nano-revived",
        "nano",
        steps=3_000,
        lambdas=(1.0, 0.36, 0.13, 0.045),
        learning_rate=2e-3,
        seed=45,
        image_weight=1.0,
        feature_weight=1.0,
        deep_weight=1.0,
        revive=True,
    ),
    # The paper's stage 1 alone: picture only.
    "paper-stage1": Recipe(
        "paper-stage1",
        "nano",
        steps=10_000,
        lambdas=(0.8, 0.3, 0.1, 0.035),
        learning_rate=2e-3,
        image_weight=1.0,
        feature_weight=0.0,
    ),
}
STAGE2 = {
    "detect": Recipe(
        "detect",
        "nano",
        steps=3_000,
        lambdas=(2.6, 1.0, 0.4, 0.14),
        learning_rate=5e-4,
        seed=46,
        feature_weight=0.3,
        deep_weight=1.0,
        head_weight=1.0,
        tail_rate=0.2,
        warm_up_share=0.02,
    ),
}

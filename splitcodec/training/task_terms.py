"""Stage 2's loss terms beside the rate, practical or as the paper prints them, and how they are weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from splitcodec.errors import TrainingError
from splitcodec.training.labels import Truth
from splitcodec.training.losses import deep_error, feature_error, output_errors
from splitcodec.training.paper_losses import mean_squared_error, paper_terms
from splitcodec.training.recipes import Recipe
from splitcodec.training.teacher import SplitStatistics, TeacherSpec

Tensors = Mapping[str, Tensor]
# feature, its target, the student's outputs, the teacher's, labels -> terms per sample (N,)
TermsOf = Callable[[Tensor, Tensor, Tensors, Tensors, Truth | None], dict[str, Tensor]]


def terms_of(recipe: Recipe, spec: TeacherSpec, statistics: SplitStatistics) -> TermsOf:
    """The terms that a recipe's losses have for a teacher."""

    def practical(
        feature: Tensor, target: Tensor, outputs: Tensors, wanted: Tensors, truth: Truth | None
    ) -> dict[str, Tensor]:
        return {
            "feature": feature_error(feature, target, statistics),
            "deep": deep_error(outputs, wanted, spec.deep),
            **output_errors(outputs, wanted, spec),
        }

    def paper(
        feature: Tensor, target: Tensor, outputs: Tensors, wanted: Tensors, truth: Truth | None
    ) -> dict[str, Tensor]:
        if truth is None:
            raise TrainingError("the paper's losses need labels; give COCO data, or --losses practical")
        return {
            "mse": mean_squared_error(feature, target),
            **paper_terms(outputs, wanted, truth, spec, recipe.crop),
        }

    return paper if recipe.losses == "paper" else practical


def weighted(recipe: Recipe, terms: Tensors) -> Tensor:
    """Everything but the rate, per sample (N,); the paper's terms are simply added up, (1) and (2)."""
    known = {"bpp": 0.0, "feature": recipe.feature_weight, "deep": recipe.deep_weight}
    other = 1.0 if recipe.losses == "paper" else recipe.head_weight
    values = [known.get(name, other) * value for name, value in terms.items()]
    return sum(values[1:], values[0])

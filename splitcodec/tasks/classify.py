"""Class logits to the best classes with their probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize
from splitcodec.tasks.scores import ClassScore, ClassScores
from splitcodec.tasks.tail_outputs import ResultLimits, check_labels, the_output


def classify(
    outputs: Mapping[str, NDArray[np.float32]],
    size: FrameSize,
    labels: Sequence[str],
    limits: ResultLimits,
) -> ClassScores:
    """Output `logits` [1, classes] of a tail for one frame to its best limits.top_classes classes.

    GraphFailed if it is missing, misshaped, not finite, or has a class count other than len(labels).
    """
    logits = class_logits(outputs)
    check_labels(len(logits), labels)
    scores = np.exp(logits.astype(np.float64) - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores, kind="stable")[: limits.top_classes].tolist()
    return ClassScores(tuple(ClassScore(labels[k], k, float(scores[k])) for k in best))


def class_logits(outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """[classes], finite; GraphFailed otherwise."""
    logits = the_output(outputs, "logits", "[1, classes]")
    if not np.isfinite(logits).all():
        raise GraphFailed("the tail gave logits that are not finite; the pack or its engine is broken")
    return logits

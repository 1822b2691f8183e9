"""What all postprocesses share: limits of an answer, and checks of what a tail gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed


@dataclass(frozen=True)
class ResultLimits:
    """What is kept of an answer.

    score_threshold: detections below it are dropped, 0..1; iou_threshold: of their per-class suppression;
    max_detections: the best ones kept per frame; top_classes: classes a classification names.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.65
    max_detections: int = 100
    top_classes: int = 5


def the_output(outputs: Mapping[str, NDArray[np.float32]], name: str, axes: str) -> NDArray[np.float32]:
    """Output `name` of a tail for one frame, without its batch axis; axes: like `[1, classes, h, w]`.

    GraphFailed if it is missing, has another rank, more than one frame, or nothing in it.
    """
    value = outputs.get(name)
    if value is None:
        raise GraphFailed(f"the tail gave {sorted(outputs)}; this task needs {name} {axes}")
    if value.ndim != axes.count(",") + 1 or value.shape[0] != 1 or not value.size:
        raise GraphFailed(f"{name} has shape {value.shape}; expected {axes}, one frame")
    return np.asarray(value[0], dtype=np.float32)


def check_labels(classes: int, labels: Sequence[str]) -> None:
    """GraphFailed unless the tail scores as many classes as the manifest labels."""
    if classes != len(labels):
        raise GraphFailed(
            f"the tail scores {classes} classes, the manifest labels {len(labels)}; re-export it"
        )

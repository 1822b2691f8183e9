"""From the name a pack's manifest gives (`postprocess: yolox`) to the function that does it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import InvalidManifest
from splitcodec.placement import FrameSize
from splitcodec.tasks.classify import classify
from splitcodec.tasks.deeplab import deeplab, deeplab_centred
from splitcodec.tasks.results import (
    ClassificationResult,
    DetectionResult,
    ResultLimits,
    SegmentationResult,
    TaskAnswer,
)
from splitcodec.tasks.retinanet import retinanet
from splitcodec.tasks.yolox import yolox


class Postprocess(Protocol):
    """Turns the outputs of a task tail for one frame into a typed answer."""

    def __call__(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        size: FrameSize,
        labels: Sequence[str],
        limits: ResultLimits,
    ) -> TaskAnswer:
        """outputs: arrays of batch size 1 by name; places come back in source pixels. GraphFailed."""
        ...


POSTPROCESSES: dict[str, Postprocess] = {
    "yolox": yolox,
    "retinanet": retinanet,
    "deeplab": deeplab,
    "deeplab_centred": deeplab_centred,
    "classify": classify,
}

ANSWERS: dict[str, type[TaskAnswer]] = {
    "yolox": DetectionResult,
    "retinanet": DetectionResult,
    "deeplab": SegmentationResult,
    "deeplab_centred": SegmentationResult,
    "classify": ClassificationResult,
}


def answer_type(name: str) -> type[TaskAnswer]:
    """The kind of answer a postprocess gives; InvalidManifest as for `postprocess_for`."""
    postprocess_for(name)
    return ANSWERS[name]


def postprocess_for(name: str) -> Postprocess:
    """The function for a manifest's `postprocess` name; InvalidManifest if this build has none."""
    try:
        return POSTPROCESSES[name]
    except KeyError:
        known = ", ".join(sorted(POSTPROCESSES))
        raise InvalidManifest(f"postprocess {name!r} is unknown; this build knows: {known}") from None

"""From the name a pack's manifest gives (`postprocess: yolox`) to the function that does it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import InvalidManifest
from splitcodec.tasks.results import DetectionResult, FrameSize
from splitcodec.tasks.yolox import yolox


class Postprocess(Protocol):
    """Turns the outputs of a task tail for one frame into a typed result."""

    def __call__(
        self,
        outputs: Mapping[str, NDArray[np.float32]],
        size: FrameSize,
        labels: Sequence[str],
        *,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.65,
        max_detections: int = 100,
    ) -> DetectionResult:
        """outputs: arrays of batch size 1 by name; scores in [0, 1]; boxes come back in source pixels."""
        ...


POSTPROCESSES: dict[str, Postprocess] = {"yolox": yolox}


def postprocess_for(name: str) -> Postprocess:
    """The function for a manifest's `postprocess` name; InvalidManifest if this build has none."""
    try:
        return POSTPROCESSES[name]
    except KeyError:
        known = ", ".join(sorted(POSTPROCESSES))
        raise InvalidManifest(f"postprocess {name!r} is unknown; this build knows: {known}") from None

"""From the name a pack's manifest gives (`postprocess: yolox`) to the function that does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import InvalidManifest
from splitcodec.placement import FrameSize
from splitcodec.tasks.answer import TaskAnswer
from splitcodec.tasks.classify import classify
from splitcodec.tasks.deeplab import deeplab, deeplab_centred
from splitcodec.tasks.detections import Detections
from splitcodec.tasks.mask import SegmentationMask
from splitcodec.tasks.retinanet import retinanet
from splitcodec.tasks.scores import ClassScores
from splitcodec.tasks.tail_outputs import ResultLimits
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


@dataclass(frozen=True)
class Known:
    """A postprocess and the kind of answer it gives."""

    run: Postprocess
    answer: type[TaskAnswer]


POSTPROCESSES: Final[dict[str, Known]] = {
    "yolox": Known(yolox, Detections),
    "retinanet": Known(retinanet, Detections),
    "deeplab": Known(deeplab, SegmentationMask),
    "deeplab_centred": Known(deeplab_centred, SegmentationMask),
    "classify": Known(classify, ClassScores),
}


def answer_type(name: str) -> type[TaskAnswer]:
    """The kind of answer a postprocess gives; InvalidManifest as for `postprocess_for`."""
    return _known(name).answer


def postprocess_for(name: str) -> Postprocess:
    """The function for a manifest's `postprocess` name; InvalidManifest if this build has none."""
    return _known(name).run


def _known(name: str) -> Known:
    try:
        return POSTPROCESSES[name]
    except KeyError:
        known = ", ".join(sorted(POSTPROCESSES))
        raise InvalidManifest(f"postprocess {name!r} is unknown; this build knows: {known}") from None

"""What the whole task networks take, which training cuts and the evaluation compares with; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class TeacherInput:
    """Pixels 0..255, in RGB or BGR order, times scale plus offset."""

    bgr: bool
    scale: float
    offset: float


UNIT_RANGE: Final = TeacherInput(bgr=False, scale=1.0 / 255.0, offset=0.0)
TEACHER_INPUTS: Final = {
    "yolox": TeacherInput(bgr=True, scale=1.0, offset=0.0),
    "deeplab": TeacherInput(bgr=False, scale=1.0 / 128.0, offset=-1.0),
    "classify": TeacherInput(bgr=False, scale=1.0 / 127.5, offset=-1.0),
    "retinanet": UNIT_RANGE,
    "deeplab_centred": UNIT_RANGE,
}
"""By the postprocess of the task."""

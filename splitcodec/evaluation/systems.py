"""What is measured: the untouched teacher, and picture codecs in front of it; see also codec_system."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import DatasetError
from splitcodec.evaluation.anchors import Anchor
from splitcodec.frame import Canvas
from splitcodec.runtime import Session, open_session
from splitcodec.teacher_inputs import TEACHER_INPUTS, TeacherInput

Outputs = Mapping[str, NDArray[np.float32]]
TEACHER_VARIABLE = "SPLITCODEC_TEACHER"


@dataclass(frozen=True)
class SystemOutput:
    """What a system made of one frame: outputs of the task network, and bytes sent (None: nothing coded)."""

    outputs: Outputs
    num_bytes: int | None


class System(Protocol):
    """One row of the report."""

    @property
    def codec(self) -> str:
        """Name of the codec, `teacher` for none."""
        ...

    @property
    def rate(self) -> float | None:
        """The codec's own rate or quality; None for the teacher."""
        ...

    def run(self, canvas: Canvas) -> SystemOutput:
        """Code the frame, decode it, run the task network."""
        ...


class TeacherSystem:
    """A whole task network, untouched: float32 [1, 3, H, W]."""

    codec = "teacher"
    rate: float | None = None

    def __init__(self, session: Session, takes: TeacherInput) -> None:
        self._session = session
        self._takes = takes

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """pixels: [H, W, 3] uint8 RGB canvas."""
        ordered = pixels[:, :, ::-1] if self._takes.bgr else pixels
        image = np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], dtype=np.float32)
        return self._session.run(
            {"images": image * np.float32(self._takes.scale) + np.float32(self._takes.offset)}
        )

    def run(self, canvas: Canvas) -> SystemOutput:
        """The network on the canvas as it is."""
        return SystemOutput(self.predict(canvas.pixels), None)


class AnchorSystem:
    """A picture codec at one quality in front of the teacher."""

    def __init__(self, anchor: Anchor, quality: int, teacher: TeacherSystem, fill: int) -> None:
        self.codec = anchor.name
        self.rate: float | None = float(quality)
        self._anchor = anchor
        self._quality = quality
        self._teacher = teacher
        self._fill = fill

    def run(self, canvas: Canvas) -> SystemOutput:
        """Only the picture is coded; the receiver knows the fill and puts it back."""
        shown = canvas.size.canvas_window
        part = np.ascontiguousarray(canvas.pixels[: shown.height, : shown.width])
        coded = self._anchor.round_trip(part, self._quality)
        received = np.full_like(canvas.pixels, self._fill)
        received[: shown.height, : shown.width] = coded.picture
        return SystemOutput(self._teacher.predict(received), coded.num_bytes)


def open_teacher(path: Path | None, postprocess: str, threads: int) -> TeacherSystem:
    """The teacher's ONNX file; DatasetError if none was named, it is not there, or it is of no known kind."""
    if path is None:
        raise DatasetError(f"no teacher was named; give --teacher FILE.onnx or set {TEACHER_VARIABLE}")
    if not path.is_file():
        raise DatasetError(
            f"there is no teacher at {path}; give --teacher FILE.onnx or set {TEACHER_VARIABLE}"
        )
    takes = TEACHER_INPUTS.get(postprocess)
    if takes is None:
        raise DatasetError(f"it is unknown what {path.name} takes; known: {sorted(TEACHER_INPUTS)}")
    return TeacherSystem(open_session(path, engine="ort-cpu", threads=threads), takes)

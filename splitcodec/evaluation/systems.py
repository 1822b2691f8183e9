"""What is measured: the untouched teacher, and picture codecs in front of it; see also codec_system."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import DatasetError
from splitcodec.evaluation.anchors import Anchor
from splitcodec.frame import Canvas, fit_size
from splitcodec.runtime import Session, open_session

Outputs = Mapping[str, NDArray[np.float32]]
TEACHER_VARIABLE = "SPLITCODEC_TEACHER"


@dataclass(frozen=True)
class Sighting:
    """What a system made of one frame: outputs of the detector, and bytes sent (None: nothing was coded)."""

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

    def look(self, canvas: Canvas) -> Sighting:
        """Code the frame, decode it, detect."""
        ...


class Teacher:
    """A whole YOLOX network, untouched: float32 [1, 3, H, W], BGR, 0..255."""

    codec = "teacher"
    rate: float | None = None

    def __init__(self, session: Session) -> None:
        self._session = session

    def detect(self, pixels: NDArray[np.uint8]) -> Outputs:
        """pixels: [H, W, 3] uint8 RGB canvas."""
        bgr = np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None], dtype=np.float32)
        return self._session.run({"images": bgr})

    def look(self, canvas: Canvas) -> Sighting:
        """Detect on the canvas as it is."""
        return Sighting(self.detect(canvas.pixels), None)


class AnchorSystem:
    """A picture codec at one quality in front of the teacher."""

    def __init__(self, anchor: Anchor, quality: int, teacher: Teacher, fill: int) -> None:
        self.codec = anchor.name
        self.rate: float | None = float(quality)
        self._anchor = anchor
        self._quality = quality
        self._teacher = teacher
        self._fill = fill

    def look(self, canvas: Canvas) -> Sighting:
        """Only the picture is coded; the receiver knows the fill and puts it back."""
        height, width = fit_size(canvas.source_height, canvas.source_width, *canvas.pixels.shape[:2])
        coded = self._anchor.round_trip(np.ascontiguousarray(canvas.pixels[:height, :width]), self._quality)
        received = np.full_like(canvas.pixels, self._fill)
        received[:height, :width] = coded.picture
        return Sighting(self._teacher.detect(received), coded.num_bytes)


def open_teacher(path: Path | None, threads: int) -> Teacher:
    """The teacher's ONNX file; DatasetError if none was named or it is not there."""
    if path is None:
        raise DatasetError(f"no teacher was named; give --teacher FILE.onnx or set {TEACHER_VARIABLE}")
    if not path.is_file():
        raise DatasetError(
            f"there is no teacher at {path}; give --teacher FILE.onnx or set {TEACHER_VARIABLE}"
        )
    return Teacher(open_session(path, engine="ort-cpu", threads=threads))

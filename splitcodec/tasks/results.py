"""The typed answers of tasks, and the sizes needed to express them in pixels of the source picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameSize:
    """The two sizes of one frame in pixels: the picture as it was posted, and the network canvas it became.

    The picture sits in the canvas's top-left corner, scaled by `scale`; the rest of the canvas is fill.
    """

    source_height: int
    source_width: int
    network_height: int
    network_width: int

    @property
    def scale(self) -> float:
        """Canvas pixels per source pixel, the same in both directions."""
        return min(self.network_height / self.source_height, self.network_width / self.source_width)


@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels: 0 <= x1 <= x2 <= width, 0 <= y1 <= y2 <= height; x right, y down."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Detection:
    """One object: its label, the label's index in the pack's list, a score in [0, 1] and where it is."""

    label: str
    class_id: int
    score: float
    box: Box


@dataclass(frozen=True)
class DetectionResult:
    """The answer of a detection task for one frame, best score first."""

    detections: tuple[Detection, ...]

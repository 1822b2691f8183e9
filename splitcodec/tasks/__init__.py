"""Task answers as types, and the arithmetic that turns a task tail's outputs into them; numpy only."""

from splitcodec.tasks.postprocess import Postprocess, postprocess_for
from splitcodec.tasks.results import Box, Detection, DetectionResult, FrameSize
from splitcodec.tasks.yolox import BoxArrays, decode_yolox, suppress_overlaps, yolox

__all__ = [
    "Box",
    "BoxArrays",
    "Detection",
    "DetectionResult",
    "FrameSize",
    "Postprocess",
    "decode_yolox",
    "postprocess_for",
    "suppress_overlaps",
    "yolox",
]

"""Task answers as types, and the arithmetic that turns a task tail's outputs into them; numpy only."""

from splitcodec.placement import FrameSize
from splitcodec.tasks.postprocess import Postprocess, postprocess_for
from splitcodec.tasks.results import (
    Box,
    ClassificationResult,
    ClassScore,
    ClassShare,
    Detection,
    DetectionResult,
    ResultLimits,
    SegmentationResult,
    TaskAnswer,
)
from splitcodec.tasks.yolox import BoxArrays, decode_yolox, suppress_overlaps, yolox

__all__ = [
    "Box",
    "BoxArrays",
    "ClassScore",
    "ClassShare",
    "ClassificationResult",
    "Detection",
    "DetectionResult",
    "FrameSize",
    "Postprocess",
    "ResultLimits",
    "SegmentationResult",
    "TaskAnswer",
    "decode_yolox",
    "postprocess_for",
    "suppress_overlaps",
    "yolox",
]

"""Task answers as types, and the arithmetic that turns a task tail's outputs into them; numpy only."""

from splitcodec.placement import FrameSize
from splitcodec.tasks.answer import Named, TaskAnswer, TensorKind
from splitcodec.tasks.detections import Detection, Detections
from splitcodec.tasks.drawing import Box, Drawing
from splitcodec.tasks.kinds import answer_of
from splitcodec.tasks.mask import ClassShare, SegmentationMask
from splitcodec.tasks.postprocess import Postprocess, postprocess_for
from splitcodec.tasks.scores import ClassScore, ClassScores
from splitcodec.tasks.tail_outputs import ResultLimits
from splitcodec.tasks.unknown import UnknownAnswer
from splitcodec.tasks.yolox import BoxArrays, decode_yolox, suppress_overlaps, yolox

__all__ = [
    "Box",
    "BoxArrays",
    "ClassScore",
    "ClassScores",
    "ClassShare",
    "Detection",
    "Detections",
    "Drawing",
    "FrameSize",
    "Named",
    "Postprocess",
    "ResultLimits",
    "SegmentationMask",
    "TaskAnswer",
    "TensorKind",
    "UnknownAnswer",
    "answer_of",
    "decode_yolox",
    "postprocess_for",
    "suppress_overlaps",
    "yolox",
]

"""Task answers as wire messages, and back; what a message claims is checked before memory is taken."""

from __future__ import annotations

from splitcodec.errors import CloudRefused
from splitcodec.tasks.results import (
    MAX_MAP_RUNS,
    MAX_MAP_SIDE,
    Box,
    ClassificationResult,
    ClassScore,
    ClassShare,
    Detection,
    DetectionResult,
    SegmentationResult,
    TaskAnswer,
)
from splitcodec.wire.v1 import results_pb2


def put_answer(answer: TaskAnswer, message: results_pb2.TaskResult) -> None:
    """Set the output of a message."""
    if isinstance(answer, DetectionResult):
        message.detections.SetInParent()  # nothing found is an answer too
        message.detections.items.extend(_detection(found) for found in answer.detections)
    elif isinstance(answer, SegmentationResult):
        message.segmentation.CopyFrom(
            results_pb2.Segmentation(
                height=answer.height,
                width=answer.width,
                run_classes=answer.run_classes,
                run_lengths=answer.run_lengths,
                classes=[
                    results_pb2.ClassShare(label=one.label, class_id=one.class_id, share=one.share)
                    for one in answer.classes
                ],
            )
        )
    else:
        message.classification.SetInParent()
        message.classification.classes.extend(
            results_pb2.ClassScore(label=one.label, class_id=one.class_id, score=one.score)
            for one in answer.classes
        )


def get_answer(message: results_pb2.TaskResult) -> TaskAnswer:
    """The output of a message. CloudRefused: it is of a kind unknown here, or a class map that is none."""
    kind = message.WhichOneof("output")
    if kind == "detections":
        return DetectionResult(tuple(_found(item) for item in message.detections.items))
    if kind == "segmentation":
        return _segmentation(message.segmentation)
    if kind == "classification":
        return ClassificationResult(
            tuple(ClassScore(one.label, one.class_id, one.score) for one in message.classification.classes)
        )
    raise CloudRefused("the cloud gave an output of a kind unknown here; update this edge")


def _detection(found: Detection) -> results_pb2.Detection:
    box = results_pb2.Box(x1=found.box.x1, y1=found.box.y1, x2=found.box.x2, y2=found.box.y2)
    return results_pb2.Detection(label=found.label, class_id=found.class_id, score=found.score, box=box)


def _found(item: results_pb2.Detection) -> Detection:
    box = Box(item.box.x1, item.box.y1, item.box.x2, item.box.y2)
    return Detection(item.label, item.class_id, item.score, box)


def _segmentation(message: results_pb2.Segmentation) -> SegmentationResult:
    height, width = message.height, message.width
    runs = len(message.run_classes)
    pixels = sum(message.run_lengths)
    if (
        not 0 < height <= MAX_MAP_SIDE
        or not 0 < width <= MAX_MAP_SIDE
        or runs > MAX_MAP_RUNS
        or runs != len(message.run_lengths)
        or pixels != height * width
        or max(message.run_classes) >= 1 << 16
    ):
        raise CloudRefused(
            f"the cloud gave a class map of {height}x{width} with {runs} runs of {pixels} pixels; a map has "
            f"sides up to {MAX_MAP_SIDE}, at most {MAX_MAP_RUNS} runs and a class for each pixel: update both"
        )
    return SegmentationResult(
        height,
        width,
        tuple(message.run_classes),
        tuple(message.run_lengths),
        tuple(ClassShare(one.label, one.class_id, one.share) for one in message.classes),
    )

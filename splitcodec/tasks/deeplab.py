"""DeepLab outputs to a class map: bilinear upsampling of the logits on their own grid, then argmax."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from splitcodec.errors import GraphFailed
from splitcodec.placement import FrameSize, fit_size
from splitcodec.tasks.mask import MAX_MAP_RUNS, MAX_MAP_SIDE, ClassShare, SegmentationMask
from splitcodec.tasks.tail_outputs import ResultLimits, check_labels, the_output


def deeplab(
    outputs: Mapping[str, NDArray[np.float32]],
    size: FrameSize,
    labels: Sequence[str],
    limits: ResultLimits,
) -> SegmentationMask:
    """Outputs of a DeepLab tail for one frame to the class map of its source picture.

    outputs: `logits` [1, classes, h, w], logit (i, j) on canvas pixel (stride * i, stride * j). GraphFailed
    if it is missing, misshaped, or has a class count other than len(labels). A picture that the canvas shows
    in part (fit "crop") has its map extended from the border of that part.
    """
    logits = segment_logits(outputs, size)
    check_labels(logits.shape[0], labels)
    return _as_answer(logits, size, labels, centred=False)


def deeplab_centred(
    outputs: Mapping[str, NDArray[np.float32]],
    size: FrameSize,
    labels: Sequence[str],
    limits: ResultLimits,
) -> SegmentationMask:
    """Like deeplab, but logit (i, j) lies in the middle of its cell of pixels, as in torchvision."""
    logits = segment_logits(outputs, size)
    check_labels(logits.shape[0], labels)
    return _as_answer(logits, size, labels, centred=True)


def _as_answer(
    logits: NDArray[np.float32], size: FrameSize, labels: Sequence[str], centred: bool
) -> SegmentationMask:
    """The largest class map that has few enough runs."""
    height, width = map_size(size)
    while (result := as_runs(class_map(logits, size, height, width, centred), labels)) is None:
        height, width = (height + 1) // 2, (width + 1) // 2
    return result


def segment_logits(outputs: Mapping[str, NDArray[np.float32]], size: FrameSize) -> NDArray[np.float32]:
    """[classes, h, w], finite, h and w dividing the canvas; GraphFailed otherwise."""
    logits = the_output(outputs, "logits", "[1, classes, h, w]")
    rows, columns = logits.shape[1:]
    if size.network_height % rows or size.network_width % columns:
        raise GraphFailed(
            f"logits of {rows}x{columns} do not divide a canvas of {size.network_height}x"
            f"{size.network_width}; export the tail again"
        )
    if not np.isfinite(logits).all():
        raise GraphFailed("the tail gave logits that are not finite; the pack or its engine is broken")
    return logits


def map_size(size: FrameSize) -> tuple[int, int]:
    """Height and width of a frame's class map: the source's, but no side above MAX_MAP_SIDE."""
    bound = (min(size.source_height, MAX_MAP_SIDE), min(size.source_width, MAX_MAP_SIDE))
    return fit_size(size.source_height, size.source_width, *bound)


def class_map(
    logits: NDArray[np.float32], size: FrameSize, height: int, width: int, centred: bool = False
) -> NDArray[np.uint16]:
    """[height, width] best class of each pixel of a map that covers the whole source picture.

    logits: [classes, h, w], sampled from the canvas's top-left corner on, or (centred) in the middle of their
    cells; beyond their outermost rows and columns they go on unchanged.
    """
    seen, (rows, columns) = size.source_window, logits.shape[1:]
    scale_down, scale_across = size.scale
    y = (_centres(height, size.source_height) - seen.top) * scale_down
    x = (_centres(width, size.source_width) - seen.left) * scale_across
    down = _weights(y, size.network_height // rows, rows, centred)
    across = _weights(x, size.network_width // columns, columns, centred)
    wide = logits @ across.T  # [classes, h, width]
    first, *others = contenders(logits).tolist()
    out = np.full((height, width), first, np.uint16)
    best = down @ wide[first]
    for class_id in others:
        plane = down @ wide[class_id]
        out[plane > best] = class_id
        np.maximum(best, plane, out=best)
    return out


def contenders(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Classes that may be best somewhere between the samples [classes, h, w], in order; at least one.

    Inside a cell of four samples a class is at most its largest of them, and the best class at least the
    largest of all classes' smallest. A picture holds few classes, so few are interpolated.
    """
    low, high = _over_cells(logits, np.minimum), _over_cells(logits, np.maximum)
    return np.flatnonzero((high >= low.max(axis=0)).any(axis=(1, 2)))


def _over_cells(logits: NDArray[np.float32], pick: np.ufunc) -> NDArray[np.float32]:
    """[classes, h, w] -> the pick of the samples around each cell, [classes, h-1, w-1], but at least one."""
    for axis in (1, 2):
        if logits.shape[axis] > 1:
            before, after = np.delete(logits, -1, axis), np.delete(logits, 0, axis)
            logits = pick(before, after)
    return logits


def as_runs(classes: NDArray[np.uint16], labels: Sequence[str]) -> SegmentationMask | None:
    """A class map [h, w] as runs; None if it has more than MAX_MAP_RUNS."""
    flat = classes.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    if len(starts) > MAX_MAP_RUNS:
        return None
    pixels = np.bincount(flat, minlength=len(labels))
    present = [class_id for class_id in np.argsort(-pixels, kind="stable").tolist() if pixels[class_id]]
    return SegmentationMask(
        height=classes.shape[0],
        width=classes.shape[1],
        run_classes=tuple(flat[starts].tolist()),
        run_lengths=tuple(np.diff(starts, append=flat.size).tolist()),
        classes=tuple(ClassShare(labels[k], k, float(pixels[k]) / flat.size) for k in present),
    )


def _centres(pixels: int, length: int) -> NDArray[np.float64]:
    """Middles of `pixels` equal parts of a side of `length`, measured from its start."""
    return (np.arange(pixels) + 0.5) * (length / pixels)


def _weights(places: NDArray[np.float64], stride: int, count: int, centred: bool) -> NDArray[np.float32]:
    """[places, count] weights of linear interpolation between samples on the middles of pixels 0, stride, ..

    centred: on the middles of cells of stride pixels instead. places: on the canvas, measured from its edge.
    Outside the samples the nearest one counts alone.
    """
    first = stride / 2 if centred else 0.5
    at = np.clip((places - first) / stride, 0, count - 1)
    low = at.astype(np.int64)
    rest = (at - low).astype(np.float32)
    weights = np.zeros((len(at), count), np.float32)
    line = np.arange(len(at))
    weights[line, low] = 1.0 - rest
    weights[line, np.minimum(low + 1, count - 1)] += rest
    return weights

"""COCO average precision, and its distribution when photos are drawn again.

pycocotools matches detections to annotations once per system; photos keep their matches whichever others are
drawn, so a bootstrap resample only weighs the matches by how often each photo was drawn. That equals running
the whole evaluation on the resampled photos (a photo drawn twice counts as two photos).
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from splitcodec.evaluation.dataset import Dataset

RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)  # COCO's 101-point interpolation
IOU_50 = 0  # index of IoU 0.50 among 0.50, 0.55 .. 0.95
MAX_DETECTIONS = 100
CHUNK_CELLS = 4_000_000  # resamples times detections held at once, float64


@dataclass(frozen=True)
class FoundBoxes:
    """One photo's detections: boxes [n, 4] x1 y1 x2 y2 in source pixels, scores [n], category_ids [n]."""

    photo_id: int
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    category_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Detections of one system held against the annotations, grouped by category, best score first in each.

    photo, category: [d] index of each detection's photo and category; matched, ignored: [10, d] per IoU
    threshold; truths: [categories, photos] number of annotations that count (crowds do not).
    """

    photo: NDArray[np.int64]
    category: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: NDArray[np.int64]


@dataclass(frozen=True)
class Precision:
    """Mean average precision in [0, 1], over IoU 0.50 to 0.95 and at 0.50; absent classes are left out."""

    map: float
    map50: float


class Matcher:
    """Holds the annotations of a data set and matches detections against them."""

    def __init__(self, dataset: Dataset) -> None:
        self._truth = COCO()
        self._truth.dataset = {
            "images": [{"id": p.photo_id, "height": p.height, "width": p.width} for p in dataset.photos],
            "categories": [{"id": c.category_id, "name": c.name} for c in dataset.categories],
            # ids from 1: pycocotools takes a match with id 0 for no match
            "annotations": [
                {
                    "id": number,
                    "image_id": truth.photo_id,
                    "category_id": truth.category_id,
                    "bbox": list(truth.box),
                    "area": truth.area,
                    "iscrowd": int(truth.is_crowd),
                }
                for number, truth in enumerate(dataset.truths, start=1)
            ],
        }
        self._photo_ids = sorted(photo.photo_id for photo in dataset.photos)
        self._category_ids = sorted(category.category_id for category in dataset.categories)
        with contextlib.redirect_stdout(io.StringIO()):
            self._truth.createIndex()

    def match(self, found: Sequence[FoundBoxes]) -> Matches:
        """Match one system's detections; photos without detections may be left out of found."""
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._truth, self._results(found), "bbox")
            evaluation.params.imgIds = self._photo_ids
            evaluation.params.catIds = self._category_ids
            evaluation.params.areaRng = [[0.0, 1e10]]
            evaluation.params.areaRngLbl = ["all"]
            evaluation.params.maxDets = [MAX_DETECTIONS]
            evaluation.evaluate()
        photos = len(self._photo_ids)
        rows = [evaluation.evalImgs[k * photos : (k + 1) * photos] for k in range(len(self._category_ids))]
        truths = np.array(
            [[0 if cell is None else int(np.sum(cell["gtIgnore"] == 0)) for cell in row] for row in rows]
        )
        parts = [_ranked(row) for row in rows]
        return Matches(
            photo=np.concatenate([part.photo for part in parts]),
            category=np.repeat(np.arange(len(parts)), [len(part.photo) for part in parts]),
            matched=np.concatenate([part.matched for part in parts], axis=1),
            ignored=np.concatenate([part.ignored for part in parts], axis=1),
            truths=truths,
        )

    def _results(self, found: Sequence[FoundBoxes]) -> COCO:
        """Detections as pycocotools wants them; its loadRes fails on an empty list."""
        table = np.concatenate([_rows(photo) for photo in found]) if found else np.zeros((0, 7))
        if len(table):
            return self._truth.loadRes(table)
        empty = COCO()
        empty.dataset = {**self._truth.dataset, "annotations": []}
        empty.createIndex()
        return empty


def precision_of(matches: Matches) -> Precision:
    """The figures on the photos as they are, each once."""
    once = np.ones((1, matches.truths.shape[1]), dtype=np.int64)
    return Precision(
        map=float(mean_precision(matches, once)[0]),
        map50=float(mean_precision(matches, once, thresholds=(IOU_50,))[0]),
    )


def draw_resamples(photos: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """[resamples, photos]: how often each photo is drawn when photos are drawn with replacement."""
    return np.random.default_rng(seed).multinomial(photos, np.full(photos, 1.0 / photos), size=resamples)


def mean_precision(
    matches: Matches, weights: NDArray[np.int64], thresholds: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """[r] mean average precision for each row of weights [r, photos]; 0 where no annotation was drawn.

    thresholds: indices of the IoU thresholds to average over; all ten by default.
    """
    chosen = tuple(range(len(matches.matched))) if thresholds is None else tuple(thresholds)
    chunk = max(1, CHUNK_CELLS // max(1, len(matches.photo)))
    parts = [
        _chunk_precision(matches, weights[start : start + chunk], chosen)
        for start in range(0, len(weights), chunk)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class _CategoryMatches:
    """Detections of one category over all photos, best first; see Matches."""

    photo: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


def _rows(found: FoundBoxes) -> NDArray[np.float64]:
    """[n, 7]: photo, x, y, width, height, score, category."""
    corners = found.boxes.astype(np.float64)
    return np.column_stack(
        [
            np.full(len(corners), found.photo_id, dtype=np.float64),
            corners[:, :2],
            corners[:, 2:] - corners[:, :2],
            found.scores,
            found.category_ids,
        ]
    )


def _ranked(cells: Sequence[dict[str, object] | None]) -> _CategoryMatches:
    """One category's cells, one per photo (None: neither boxes nor detections), ranked by score."""
    held = [(index, cell) for index, cell in enumerate(cells) if cell is not None]
    scores = [np.asarray(cell["dtScores"], dtype=np.float64) for _, cell in held]
    if not scores:
        nothing = np.zeros((10, 0), dtype=np.bool_)
        return _CategoryMatches(np.zeros(0, dtype=np.int64), nothing, nothing)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    photo = np.repeat([index for index, _ in held], [len(part) for part in scores]).astype(np.int64)
    matched = np.concatenate([np.asarray(cell["dtMatches"]) > 0 for _, cell in held], axis=1)
    ignored = np.concatenate([np.asarray(cell["dtIgnore"], dtype=np.bool_) for _, cell in held], axis=1)
    return _CategoryMatches(photo[order], matched[:, order], ignored[:, order])


def _chunk_precision(
    matches: Matches, weights: NDArray[np.int64], thresholds: tuple[int, ...]
) -> NDArray[np.float64]:
    """mean_precision for as many resamples as fit into memory."""
    truths = weights @ matches.truths.T  # [r, categories]
    present = np.count_nonzero(truths, axis=1)
    drawn = weights[:, matches.photo]  # [r, d]
    total = np.zeros(len(weights))
    plain = _running(drawn)
    for threshold in thresholds:
        ignored = matches.ignored[threshold]
        ranks = _running(np.where(ignored, 0, drawn)) if ignored.any() else plain
        hits = np.flatnonzero(matches.matched[threshold] & ~ignored)
        total += _summed_precision(matches, drawn, ranks, truths, hits)
    mean = total / (len(thresholds) * len(RECALL_THRESHOLDS))
    return np.divide(mean, present, out=np.zeros_like(mean), where=present > 0)


def _summed_precision(
    matches: Matches,
    drawn: NDArray[np.int64],
    ranks: NDArray[np.int64],
    truths: NDArray[np.int64],
    hits: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[r] interpolated precision summed over recall thresholds and categories, at one IoU threshold.

    drawn: [r, d] weight of each detection; ranks: its running sums over detections that count.
    Precision only matters at true positives (hits): between two of them it falls, and the interpolation looks
    for the best at any higher recall.
    """
    if not len(hits):
        return np.zeros(len(drawn))
    category = matches.category[hits]
    first = np.flatnonzero(np.diff(category, prepend=-1))  # each category's best hit
    of_hit = np.repeat(np.arange(len(first)), np.diff(first, append=len(hits)))
    begin = np.searchsorted(matches.category, category[first])  # each category's best detection
    counted = _running(drawn[:, hits])
    found = counted[:, 1:] - counted[:, first][:, of_hit]
    rank = ranks[:, hits + 1] - ranks[:, begin][:, of_hit]
    precision = np.divide(found, rank, out=np.zeros(found.shape), where=rank > 0)
    wanted = truths[:, category]
    recall = np.divide(found, wanted, out=np.zeros(found.shape), where=wanted > 0)
    # Categories are stacked two apart, so one running maximum from the right serves them all.
    lift = 2.0 * (len(first) - 1 - of_hit)
    best = np.maximum.accumulate((precision + lift)[:, ::-1], axis=1)[:, ::-1] - lift
    reached = np.searchsorted(RECALL_THRESHOLDS, recall, side="right")
    gained = np.diff(reached, axis=1, prepend=0)
    gained[:, first] = reached[:, first]
    summed: NDArray[np.float64] = (best * gained).sum(axis=1)
    return summed


def _running(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[r, n] to [r, n + 1]: sums of the first 0, 1 .. n entries of each row."""
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums

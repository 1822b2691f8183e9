"""From records to rows: bytes, bits per pixel, accuracy, and what was lost against the untouched teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitcodec.evaluation.average_precision import Judge, draw_resamples, mean_precision, precision_of
from splitcodec.evaluation.bd_rate import BdRate, CurvePoint, bd_rate, bytes_at
from splitcodec.evaluation.dataset import Dataset
from splitcodec.evaluation.measure import Record

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20261121


@dataclass(frozen=True)
class Row:
    """One operating point on one data set.

    bytes_per_frame: mean, bytes_p95: 95th percentile, of real bytes; bpp: all bits over all pixels of the
    original photos; None for the teacher, which codes nothing. map, map50: in [0, 1]. drop: the teacher's map
    minus this one; drop_low, drop_high: its 95 % percentile interval over paired resamples of the photos.
    """

    codec: str
    rate: float | None
    bytes_per_frame: float | None
    bytes_p95: float | None
    bpp: float | None
    map: float
    map50: float
    drop: float
    drop_low: float
    drop_high: float


@dataclass(frozen=True)
class EqualAccuracy:
    """Bytes a picture codec needs for the accuracy of one row of ours; None where it does not reach it."""

    rate: float
    map: float
    num_bytes: float
    anchor: str
    anchor_bytes: float | None


def rows_of(dataset: Dataset, records: Sequence[Record], resamples: int = RESAMPLES) -> list[Row]:
    """One row per record; the first record is the teacher's, which the others are compared with."""
    judge = Judge(dataset)
    weights = draw_resamples(len(dataset.photos), resamples, SEED)
    pixels = sum(photo.height * photo.width for photo in dataset.photos)
    rows: list[Row] = []
    reference = np.zeros(0)
    for record in records:
        matches = judge.match(record.found)
        precision = precision_of(matches)
        resampled = mean_precision(matches, weights)
        if not rows:
            reference = resampled
        tail = (1.0 - CONFIDENCE) / 2
        low, high = np.quantile(reference - resampled, [tail, 1.0 - tail])
        sizes = np.array(record.num_bytes, dtype=np.float64)
        rows.append(
            Row(
                codec=record.codec,
                rate=record.rate,
                bytes_per_frame=float(sizes.mean()) if len(sizes) else None,
                bytes_p95=float(np.quantile(sizes, 0.95)) if len(sizes) else None,
                bpp=float(sizes.sum()) * 8 / pixels if len(sizes) else None,
                map=precision.map,
                map50=precision.map50,
                drop=(rows[0].map if rows else precision.map) - precision.map,
                drop_low=float(low),
                drop_high=float(high),
            )
        )
    return rows


def curve_of(rows: Sequence[Row], codec: str) -> list[CurvePoint]:
    """The points of one codec, in the order of the rows."""
    return [
        CurvePoint(row.bytes_per_frame, row.map)
        for row in rows
        if row.codec == codec and row.bytes_per_frame is not None
    ]


def anchor_names(rows: Sequence[Row], codec: str) -> list[str]:
    """Every other codec that has bytes, in the order of the rows."""
    others = [row.codec for row in rows if row.bytes_per_frame is not None and row.codec != codec]
    return list(dict.fromkeys(others))


def bd_rates(rows: Sequence[Row], codec: str) -> list[BdRate]:
    """codec against every picture codec of the table."""
    return [
        bd_rate(curve_of(rows, codec), curve_of(rows, anchor), anchor) for anchor in anchor_names(rows, codec)
    ]


def equal_accuracy(rows: Sequence[Row], codec: str) -> list[EqualAccuracy]:
    """For each row of codec, what each picture codec needs for the same accuracy."""
    return [
        EqualAccuracy(
            row.rate, row.map, row.bytes_per_frame, anchor, bytes_at(curve_of(rows, anchor), row.map)
        )
        for row in rows
        if row.codec == codec and row.rate is not None and row.bytes_per_frame is not None
        for anchor in anchor_names(rows, codec)
    ]

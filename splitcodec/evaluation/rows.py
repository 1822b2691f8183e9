"""From records to rows: bytes, bits per pixel, accuracy, and what was lost against the untouched teacher."""

from collections.abc import Sequence

import numpy as np

from splitcodec.evaluation.average_precision import draw_resamples
from splitcodec.evaluation.bd_rate import BdRate, CurvePoint, bd_rate, bytes_at
from splitcodec.evaluation.measure import Record
from splitcodec.evaluation.report import EqualAccuracy, Row
from splitcodec.evaluation.scorer import Scorer, Seen

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 20261121


def rows_of(scorer: Scorer[Seen], records: Sequence[Record[Seen]], resamples: int = RESAMPLES) -> list[Row]:
    """One row per record; the first record is the teacher's, which the others are compared with."""
    weights = draw_resamples(len(scorer.photos), resamples, SEED)
    pixels = sum(photo.height * photo.width for photo in scorer.photos)
    teacher = scorer.score(records[0].seen, records[0].seen, weights)
    tail = (1.0 - CONFIDENCE) / 2
    rows: list[Row] = []
    for record in records:
        score = scorer.score(record.seen, records[0].seen, weights)
        low, high = np.quantile(teacher.resampled - score.resampled, [tail, 1.0 - tail])
        sizes = np.array(record.num_bytes, dtype=np.float64)
        rows.append(
            Row(
                codec=record.codec,
                rate=record.rate,
                bytes_per_frame=float(sizes.mean()) if len(sizes) else None,
                bytes_p95=float(np.quantile(sizes, 0.95)) if len(sizes) else None,
                bpp=float(sizes.sum()) * 8 / pixels if len(sizes) else None,
                accuracy=score.accuracy,
                drop=teacher.accuracy - score.accuracy,
                drop_low=float(low),
                drop_high=float(high),
                detail=score.detail,
            )
        )
    return rows


def curve_of(rows: Sequence[Row], codec: str) -> list[CurvePoint]:
    """The points of one codec, in the order of the rows."""
    return [
        CurvePoint(row.bytes_per_frame, row.accuracy)
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
    curves = {anchor: curve_of(rows, anchor) for anchor in anchor_names(rows, codec)}
    return [
        EqualAccuracy(row.rate, row.accuracy, row.bytes_per_frame, anchor, bytes_at(curve, row.accuracy))
        for row in rows
        if row.codec == codec and row.rate is not None and row.bytes_per_frame is not None
        for anchor, curve in curves.items()
    ]

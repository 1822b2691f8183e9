"""What a pack's makers measured of bytes against rate, as the start of rate control."""

from __future__ import annotations

from splitcodec.packs.schema import Manifest
from splitcodec.rate_control import RatePoints


def rate_points(manifest: Manifest, task: str) -> RatePoints:
    """The measured curve of a task; a typical one where the pack has none."""
    rows = [(row.rate, row.bytes_per_frame) for row in manifest.measured if row.task == task]
    return RatePoints(float(manifest.codec.rate_points - 1), rows)

"""Runs every system over every photo once and keeps what is needed for the rows: bytes and what was seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from splitcodec.errors import DatasetError
from splitcodec.evaluation.dataset import Photo
from splitcodec.evaluation.scorer import Scorer, Seen
from splitcodec.evaluation.systems import System
from splitcodec.frame import Canvas, read_canvas
from splitcodec.packs.convention import InputConvention


@dataclass
class Record(Generic[Seen]):
    """One system on a data set: bytes of each photo in order (none if it codes nothing), and what it saw."""

    codec: str
    rate: float | None
    num_bytes: list[int] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)


def measure(
    scorer: Scorer[Seen],
    systems: Sequence[System],
    convention: InputConvention,
    advance: Callable[[], None],
) -> list[Record[Seen]]:
    """One record per system, in order; advance is called after each system on each photo.

    DatasetError if the data set states another size than a photo has.
    """
    records: list[Record[Seen]] = [Record(system.codec, system.rate) for system in systems]
    for photo in scorer.photos:
        canvas = read_canvas(scorer.read_photo(photo), None, convention)
        _check_size(photo, canvas)
        for system, record in zip(systems, records, strict=True):
            output = system.run(canvas)
            if output.num_bytes is not None:
                record.num_bytes.append(output.num_bytes)
            record.seen.append(scorer.read_outputs(photo, canvas.size, output.outputs))
            advance()
    return records


def _check_size(photo: Photo, canvas: Canvas) -> None:
    if (canvas.source_height, canvas.source_width) != (photo.height, photo.width):
        raise DatasetError(
            f"{photo.file_name} is {canvas.source_width}x{canvas.source_height}, its annotations are for"
            f" {photo.width}x{photo.height}; correct the annotations or remove the photo"
        )

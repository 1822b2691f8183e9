"""What a task's accuracy is: one scorer per kind of answer, all with one face."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from splitcodec.evaluation.dataset import Photo
from splitcodec.evaluation.systems import Outputs
from splitcodec.placement import FrameSize

Seen = TypeVar("Seen")
"""What a scorer keeps of one system on one photo."""


@dataclass(frozen=True)
class Metric:
    """key: in reports and packs; name: for people; definition, answers: how to get the same figures."""

    key: str
    name: str
    definition: str
    answers: str


@dataclass(frozen=True)
class Score:
    """One system on all photos: accuracy in [0, 1], the same on each resample [r], and further figures."""

    accuracy: float
    resampled: NDArray[np.float64]
    detail: dict[str, float]


class Scorer(Protocol[Seen]):
    """Holds photos with the truth about them, and scores what systems make of them."""

    @property
    def metric(self) -> Metric:
        """What `accuracy` is."""
        ...

    @property
    def data(self) -> str:
        """Name of the data set."""
        ...

    @property
    def photos(self) -> tuple[Photo, ...]:
        """The photos to measure on, in order."""
        ...

    @property
    def truths(self) -> int:
        """How many annotations there are."""
        ...

    def read_photo(self, photo: Photo) -> bytes:
        """A photo's file; DatasetError if it is missing."""
        ...

    def read_outputs(self, photo: Photo, size: FrameSize, outputs: Outputs) -> Seen:
        """What counts of a network's outputs for one photo."""
        ...

    def score(self, seen: Sequence[Seen], teacher: Sequence[Seen], weights: NDArray[np.int64]) -> Score:
        """seen, teacher: of every photo in order; weights [r, photos]: how often each resample drew it."""
        ...


def ratio(hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """hits / counts, 0 where nothing was counted."""
    quotient: NDArray[np.float64] = np.divide(hits, counts, out=np.zeros_like(hits), where=counts > 0)
    return quotient

"""A detector for Frigate (its ZMQ protocol) that lets a splitcodec cloud look at the pictures.

    request   JSON {"shape": [1, H, W, 3] or [1, 3, H, W], "dtype": "uint8" or "float32"}, then the tensor
              (RGB)
    reply     JSON {"shape": [20, 6], "dtype": "float32"}, then 20 rows: class, score, top, left, bottom,
              right, places as shares of the sides; rows of zeros behind the last box
    no reply  JSON {"error": "what happened and what to do"}, then nothing

Zeros mean that nothing is there, so they are never sent for a picture that nobody looked at.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from splitcodec.errors import CloudRefused, InvalidRequest, SplitcodecError
from splitcodec.picture_codec import PictureCodec
from splitcodec.tasks import Detections, TaskAnswer

log = logging.getLogger(__name__)

ROWS: Final = 20
COLUMNS: Final = 6
MAX_SIDE: Final = 2048  # pixels
MAX_HEADER_BYTES: Final = 4096
SAY_AGAIN_S: Final = 60.0  # the same trouble is logged this often
_REPLY: Final = json.dumps({"shape": [ROWS, COLUMNS], "dtype": "float32"}).encode()


class Infer(Protocol):
    """Has a cloud answer a bitstream."""

    def __call__(self, bitstream: bytes, task: str) -> TaskAnswer:
        """CloudUnavailable, CloudRefused."""
        ...


class _Header(BaseModel):
    """Of a request; Frigate adds the kind of its model, and may add more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    shape: list[int] = Field(min_length=4, max_length=4)
    dtype: str


class FrigateDetector:
    """Requests to replies; for one thread."""

    def __init__(
        self,
        codec: PictureCodec,
        infer: Infer,
        task: str = "detect",
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """task: one that finds boxes; rate: None for mid-range."""
        self._codec, self._infer, self._task, self._rate = codec, infer, task, rate
        self._clock = clock
        self._said: dict[str, float] = {}

    def reply(self, request: Sequence[bytes]) -> list[bytes]:
        """The frames that answer those of a request."""
        try:
            pixels = picture_of(request)
            encoded = self._codec.encode(pixels, self._task, self._rate)
            answer = self._infer(encoded.bitstream, self._task)
            if not isinstance(answer, Detections):
                raise CloudRefused(f"task {self._task} answers with {answer.kind}; give one that finds boxes")
        except SplitcodecError as error:
            self._log(error)
            return [json.dumps({"error": f"{type(error).__name__}: {error}"}).encode(), b""]
        return [_REPLY, rows_of(answer, *pixels.shape[:2]).tobytes()]

    def _log(self, error: SplitcodecError) -> None:
        kind, now = type(error).__name__, self._clock()
        if now - self._said.get(kind, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said[kind] = now
            log.error("a picture has no answer: %s: %s", kind, error)


def picture_of(request: Sequence[bytes]) -> NDArray[np.uint8]:
    """The picture of a request, uint8 [H, W, 3] RGB. InvalidRequest: it holds none."""
    if len(request) != 2 or len(request[0]) > MAX_HEADER_BYTES:
        raise InvalidRequest(f"{len(request)} frames came; send a JSON header and a tensor")
    try:
        header = _Header.model_validate_json(request[0])
    except ValidationError as error:
        raise InvalidRequest(
            f"the header is malformed: {error.errors()[0]['msg']}; see docs/clients.md"
        ) from None
    batch, *sides = header.shape
    channels_first = sides[0] == 3 and sides[2] != 3
    height, width, channels = (sides[1], sides[2], sides[0]) if channels_first else tuple(sides)
    sizes = {"uint8": 1, "float32": 4}
    sound = batch == 1 and channels == 3 and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE
    if not sound or header.dtype not in sizes:
        raise InvalidRequest(
            f"a tensor of {header.dtype} {header.shape} came; send uint8 or float32 [1, H, W, 3] or "
            f"[1, 3, H, W], sides up to {MAX_SIDE}"
        )
    if len(request[1]) != height * width * 3 * sizes[header.dtype]:
        raise InvalidRequest(f"the tensor has {len(request[1])} bytes, its header says {header.shape}")
    values: NDArray[Any] = np.frombuffer(request[1], header.dtype).reshape(sides)
    picture = values.transpose(1, 2, 0) if channels_first else values
    if header.dtype == "float32":  # 0..1
        picture = np.rint(np.clip(np.nan_to_num(picture), 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(picture)


def rows_of(answer: Detections, height: int, width: int) -> NDArray[np.float32]:
    """The best ROWS boxes as Frigate wants them: float32 [20, 6]."""
    rows = np.zeros((ROWS, COLUMNS), np.float32)
    for row, one in zip(rows, answer.detections, strict=False):
        box = one.box
        row[:] = (one.class_id, one.score, box.y1 / height, box.x1 / width, box.y2 / height, box.x2 / width)
    return rows

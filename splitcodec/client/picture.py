"""A picture as a caller has it, as the body of a request."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from splitcodec.errors import BrokenFrame, UnsupportedFrame
from splitcodec.picture import GENERIC_TYPE

JPEG_QUALITY: Final = 95
Image: TypeAlias = "bytes | str | PathLike[str] | NDArray[np.uint8]"
"""Bytes of a JPEG, PNG or WebP file; a path to one; or RGB pixels [H, W, 3] uint8 (sent as JPEG 95)."""


def picture_body(image: Image) -> tuple[bytes, str]:
    """(body, content type). UnsupportedFrame: no picture; BrokenFrame: the file cannot be read."""
    if isinstance(image, bytes):
        return image, GENERIC_TYPE
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise UnsupportedFrame(
                f"pixels are {image.dtype} {list(image.shape)}; give uint8 [height, width, 3] in RGB order"
            )
        encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, colorsubsampling="444")
        return bytes(encoded), "image/jpeg"
    try:
        return Path(image).read_bytes(), GENERIC_TYPE
    except OSError as error:
        raise BrokenFrame(f"{image} cannot be read ({error.strerror}); check the path") from error

"""A picture as a caller has it, as the body of a request."""

from __future__ import annotations

from typing import Final

import numpy as np
import simplejpeg

from splitcodec.picture import GENERIC_TYPE, PILLOW_MAX_PIXELS, Image, PictureLimits, check_pixels, read_file

JPEG_QUALITY: Final = 95
LIMITS: Final = PictureLimits(max_pixels=PILLOW_MAX_PIXELS)  # the most that any edge may be set to


def picture_body(image: Image) -> tuple[bytes, str]:
    """(body, content type); pixels are sent as JPEG 95.

    UnsupportedFrame: no picture; FrameTooLarge: more pixels than any edge takes; BrokenFrame: the file cannot
    be read.
    """
    if isinstance(image, bytes):
        return image, GENERIC_TYPE
    if isinstance(image, np.ndarray):
        check_pixels(image, LIMITS)
        encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, colorsubsampling="444")
        return bytes(encoded), "image/jpeg"
    return read_file(image), GENERIC_TYPE

"""What a picture file says about itself, read and held against hard limits before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from splitcodec.errors import BrokenFrame, FrameTooLarge, UnsupportedFrame

Kind = Literal["jpeg", "png", "webp"]
Image: TypeAlias = "bytes | str | PathLike[str] | NDArray[np.uint8]"
"""Bytes of a JPEG, PNG or WebP file; a path to one; or RGB pixels [H, W, 3] uint8."""

MAX_SIDE: Final = 16384  # what the bitstream header allows
PILLOW_MAX_PIXELS: Final = 89_478_485  # above this Pillow itself warns of a decompression bomb
MAX_JPEG_SCANS: Final = 64  # each scan of a progressive JPEG costs a pass over the whole picture
GENERIC_TYPE: Final = "application/octet-stream"
UNTOLD_TYPES: Final = (
    "",
    GENERIC_TYPE,
    "binary/octet-stream",
    "application/x-www-form-urlencoded",  # what curl sends where no type is given
    "image/*",
    "*/*",
)
"""Declared types that say nothing of what the bytes are."""
CONTENT_TYPES: Final[dict[str, Kind]] = {
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/pjpeg": "jpeg",
    "image/png": "png",
    "image/webp": "webp",
}
PICTURE_FILES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""Content types of picture files by the end of their names."""
_REMEDY: Final = "send one JPEG, PNG or WebP picture as it is in its file"
_AGAIN: Final = "check the camera or the link and send it again"


@dataclass(frozen=True)
class PictureLimits:
    """Hard caps of one picture, both checked before decoding: bytes of the file, pixels of the picture."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 25_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes is {self.max_bytes}, it must be at least 1")
        if not 1 <= self.max_pixels <= PILLOW_MAX_PIXELS:
            raise ValueError(f"max_pixels is {self.max_pixels}, it must be 1 to {PILLOW_MAX_PIXELS}")


DEFAULT_LIMITS: Final = PictureLimits()


@dataclass(frozen=True)
class PictureHeader:
    """What the file says: its kind, and its size in pixels as stored (before EXIF orientation)."""

    kind: Kind
    height: int
    width: int


def inspect_picture(
    data: bytes, content_type: str | None = None, limits: PictureLimits = DEFAULT_LIMITS
) -> PictureHeader:
    """Read the header alone and hold it against the limits.

    content_type: as a client declared it; it only serves to explain why the bytes are no picture.
    UnsupportedFrame: not a still JPEG, PNG or WebP; FrameTooLarge: over `limits`; BrokenFrame: damaged.
    """
    if len(data) > limits.max_bytes:
        raise FrameTooLarge(
            f"the picture has {len(data)} bytes, the limit is {limits.max_bytes}; scale it down"
        )
    kind = _kind_of(data, content_type)
    height, width = _SIZE_READERS[kind](data)
    if height < 1 or width < 1:
        raise BrokenFrame(f"the {kind} header says {width}x{height} pixels; {_AGAIN}")
    _check_size(height, width, limits)
    return PictureHeader(kind, height, width)


def check_pixels(pixels: NDArray[np.uint8], limits: PictureLimits = DEFAULT_LIMITS) -> None:
    """UnsupportedFrame unless an array is uint8 [height, width, 3]; FrameTooLarge: over `limits`."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise UnsupportedFrame(
            f"pixels are {pixels.dtype} {list(pixels.shape)}; give uint8 [height, width, 3] in RGB order"
        )
    _check_size(pixels.shape[0], pixels.shape[1], limits)


def read_file(path: str | PathLike[str]) -> bytes:
    """The bytes of a picture's file. BrokenFrame: it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BrokenFrame(f"{path} cannot be read ({error.strerror}); check the path") from error


def _check_size(height: int, width: int, limits: PictureLimits) -> None:
    size = f"{width}x{height}"
    if max(height, width) > MAX_SIDE:
        raise FrameTooLarge(f"the picture is {size}, the longest side allowed is {MAX_SIDE}; scale it down")
    if height * width > limits.max_pixels:
        count = f"{height * width} pixels ({size})"
        raise FrameTooLarge(f"the picture has {count}, the limit is {limits.max_pixels}; scale it down")


def _kind_of(data: bytes, content_type: str | None) -> Kind:
    """The bytes decide."""
    if not data:
        raise BrokenFrame(f"the picture is empty; {_REMEDY}")
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    declared = (content_type or "").partition(";")[0].strip().lower()
    if declared not in UNTOLD_TYPES and declared not in CONTENT_TYPES:
        known = ", ".join(sorted(CONTENT_TYPES))
        raise UnsupportedFrame(f"content type {declared[:100]!r} is not one of {known}; {_REMEDY}")
    raise UnsupportedFrame(f"the bytes begin with {data[:8].hex()}, which is no JPEG, PNG or WebP; {_REMEDY}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise BrokenFrame(f"the JPEG header cannot be read ({error}); {_AGAIN}") from error
    if colorspace in ("CMYK", "YCCK"):
        raise UnsupportedFrame(f"the JPEG holds {colorspace} colours; convert it to RGB or grey")
    # In coded data FF is followed by 00 or a restart marker only, so this counts scans (and a thumbnail's).
    scans = data.count(b"\xff\xda")
    if scans > MAX_JPEG_SCANS:
        raise FrameTooLarge(f"the JPEG has {scans} scans, the limit is {MAX_JPEG_SCANS}; save it as baseline")
    return int(height), int(width)


def _png_size(data: bytes) -> tuple[int, int]:
    """Size from IHDR, once every chunk's CRC was checked: Pillow skips those of the pixel data."""
    if data[8:16] != b"\x00\x00\x00\rIHDR":
        raise BrokenFrame(f"the PNG does not begin with an IHDR chunk; {_AGAIN}")
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise BrokenFrame(f"the PNG ends at byte {len(data)} without an IEND chunk; {_AGAIN}")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            left = len(data) - position - 12
            raise BrokenFrame(f"PNG chunk {name!r} claims {length} bytes, {left} are left; {_AGAIN}")
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise BrokenFrame(f"PNG chunk {name!r} at byte {position} has a wrong CRC; {_AGAIN}")
        if name == b"acTL":
            raise UnsupportedFrame(f"the PNG is animated; {_REMEDY}")
        position = end + 4
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _webp_size(data: bytes) -> tuple[int, int]:
    claimed = int.from_bytes(data[4:8], "little") + 8
    if claimed > len(data) or len(data) < 30:
        raise BrokenFrame(f"the WebP claims {claimed} bytes, {len(data)} came; {_AGAIN}")
    chunk = data[12:16]
    if chunk == b"VP8X":
        if data[20] & 0x02:
            raise UnsupportedFrame(f"the WebP is animated; {_REMEDY}")
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if chunk == b"VP8L" and data[20] == 0x2F:
        packed = int.from_bytes(data[21:25], "little")
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    raise BrokenFrame(f"the WebP begins with a damaged {chunk!r} chunk; {_AGAIN}")


_SIZE_READERS: Final[dict[Kind, Callable[[bytes], tuple[int, int]]]] = {
    "jpeg": _jpeg_size,
    "png": _png_size,
    "webp": _webp_size,
}

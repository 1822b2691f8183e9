"""Hard caps and kinds, decided from the header before anything is decoded."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from splitcodec.errors import BrokenFrame, FrameTooLarge, UnsupportedFrame
from splitcodec.frame import read_picture
from splitcodec.picture import UNTOLD_TYPES, PictureHeader, PictureLimits, inspect_picture

PLAIN = np.full((30, 50, 3), 90, dtype=np.uint8)


def encode(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PLAIN).save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (
        png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 64)) + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode("JPEG"))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    """An extended WebP (24-bit canvas size) around the pixels of a small one."""
    small = encode("WEBP", quality=50)
    extended = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended + small[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode("JPEG"), "jpeg"),
        (encode("PNG"), "png"),
        (encode("WEBP", quality=60), "webp"),
        (encode("WEBP", lossless=True), "webp"),
        (encode("WEBP", exif=b"Exif\0\0" + Image.Exif().tobytes()), "webp"),
    ],
)
def test_header_is_read_without_decoding(data: bytes, kind: str) -> None:
    assert inspect_picture(data) == PictureHeader(kind, 30, 50)


@pytest.mark.parametrize("claiming", [png_claiming, jpeg_claiming, webp_claiming])
def test_decompression_bombs_are_refused_by_their_header(claiming) -> None:
    with pytest.raises(FrameTooLarge, match=r"longest side allowed is 16384"):
        read_picture(claiming(50_000, 60_000))
    with pytest.raises(FrameTooLarge, match=r"225000000 pixels \(15000x15000\), the limit is 25000000"):
        read_picture(claiming(15_000, 15_000))


@pytest.mark.parametrize("claiming", [png_claiming, webp_claiming])
def test_a_header_that_promises_more_than_the_data_holds_is_broken(claiming) -> None:
    with pytest.raises(BrokenFrame):
        read_picture(claiming(400, 300))


def test_byte_and_pixel_caps_are_inclusive() -> None:
    data = encode("JPEG")
    assert inspect_picture(data, limits=PictureLimits(max_bytes=len(data), max_pixels=1500)).width == 50
    with pytest.raises(
        FrameTooLarge, match=rf"{len(data)} bytes, the limit is {len(data) - 1}; scale it down"
    ):
        inspect_picture(data, limits=PictureLimits(max_bytes=len(data) - 1))
    with pytest.raises(FrameTooLarge, match=r"1500 pixels \(50x30\), the limit is 1499"):
        inspect_picture(data, limits=PictureLimits(max_pixels=1499))


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_pixels": 0}, {"max_pixels": 10**9}])
def test_senseless_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        PictureLimits(**limits)


def test_the_bytes_decide_the_kind_not_the_declared_type() -> None:
    assert inspect_picture(encode("PNG"), "image/jpeg").kind == "png"
    assert inspect_picture(encode("WEBP"), "application/octet-stream").kind == "webp"
    assert inspect_picture(encode("JPEG"), "IMAGE/JPG; charset=binary").kind == "jpeg"


@pytest.mark.parametrize(
    "content_type", ["text/html", "image/gif", "multipart/form-data; boundary=x", "image/jpegx"]
)
def test_another_declared_type_is_named_where_the_bytes_are_no_picture(content_type: str) -> None:
    assert inspect_picture(encode("JPEG"), content_type).kind == "jpeg"
    declared = re.escape(repr(content_type.partition(";")[0]))
    with pytest.raises(UnsupportedFrame, match=rf"content type {declared} is not one of .* send one JPEG"):
        inspect_picture(b"GIF89a" + b"\0" * 64, content_type)


@pytest.mark.parametrize("content_type", [None, *UNTOLD_TYPES])
def test_a_type_that_says_nothing_is_not_blamed(content_type: str | None) -> None:
    assert inspect_picture(encode("PNG"), content_type).kind == "png"
    with pytest.raises(UnsupportedFrame, match="the bytes begin with 474946"):
        inspect_picture(b"GIF89a" + b"\0" * 64, content_type)


@pytest.mark.parametrize(
    "data", [b"GIF89a" + b"\0" * 64, b"%PDF-1.7", b"\0", b"BM" + b"\0" * 60, b"RIFF\0\0\0\0AVI "]
)
def test_other_bytes_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedFrame, match="no JPEG, PNG or WebP"):
        inspect_picture(data, "image/jpeg")


def test_an_empty_body_is_broken() -> None:
    with pytest.raises(BrokenFrame, match="empty"):
        inspect_picture(b"", "image/jpeg")


def test_animations_are_unsupported() -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), shade, np.uint8)) for shade in (0, 90, 180)]
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=40)
        with pytest.raises(UnsupportedFrame, match="animated"):
            read_picture(buffer.getvalue())


def test_cmyk_jpeg_is_unsupported() -> None:
    buffer = io.BytesIO()
    Image.fromarray(PLAIN).convert("CMYK").save(buffer, "JPEG")
    with pytest.raises(UnsupportedFrame, match="convert it to RGB"):
        read_picture(buffer.getvalue())


def test_a_jpeg_with_hundreds_of_scans_is_refused() -> None:
    data = encode("JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(FrameTooLarge, match="scans, the limit is 64"):
        read_picture(data[:-2] + last_scan * 300 + data[-2:])


def test_png_damage_is_found_by_its_crc() -> None:
    data = bytearray(encode("PNG"))
    data[data.index(b"IDAT") + 12] ^= 0x10
    with pytest.raises(BrokenFrame, match="wrong CRC"):
        read_picture(bytes(data))


def test_zero_sized_pictures_are_broken() -> None:
    with pytest.raises(BrokenFrame):
        read_picture(png_claiming(0, 10))

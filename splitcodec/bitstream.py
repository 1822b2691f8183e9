"""Bitstream v1: one compressed frame, self-describing, little-endian. Full specification: docs/bitstream.md.

    offset size field
         0    4 magic           8B 53 50 43
         4    1 version         1
         5    1 flags           0; other values are reserved
         6    8 codec digest    first 8 bytes of the codec's SHA-256
        14    8 prompt digest   first 8 bytes of the prompt's SHA-256
        22    2 rate            u8.8 fixed point, 0 = smallest rate
        24    2 source height   pixels, 1..16384
        26    2 source width    pixels, 1..16384
        28    1 network height  in units of 32 pixels, 1..64
        29    1 network width   in units of 32 pixels, 1..64
        30    4 sigma CRC       CRC-32 of the sigma index tensor
        34  1-4 z length        varint, bytes
         .  1-4 y length        varint, bytes
         .    z z substream     rANS
         .    y y substream     rANS
         .    4 CRC-32C         of every byte before it

Nothing follows. A varint is unsigned LEB128 in its shortest form. All but the substreams takes at most 46
bytes. `parse` checks all of this before it hands out anything.
"""

import struct
from dataclasses import dataclass

import google_crc32c

from splitcodec.errors import BitstreamTooLarge, CorruptBitstream, UnsupportedVersion

MAGIC = b"\x8bSPC"
VERSION = 1
DIGEST_BYTES = 8
SIZE_MULTIPLE = 32  # network sides are multiples of this
MAX_NETWORK_SIDE = 2048  # pixels
MAX_SOURCE_SIDE = 16384  # pixels
MAX_BITSTREAM_BYTES = 4 << 20
MAX_VARINT_BYTES = 4
_FIXED = struct.Struct("<4sBB8s8sHHHBBI")
_CRC = struct.Struct("<I")
_MIN_BYTES = _FIXED.size + 2 + _CRC.size
MAX_HEADER_BYTES = _FIXED.size + 2 * MAX_VARINT_BYTES + _CRC.size  # all but the substreams; promised: <= 48


@dataclass(frozen=True)
class Header:
    """What a decoder must know before it touches a substream.

    codec_digest, prompt_digest: 8 bytes each. rate_fixed: u8.8, 0..65535 (the pack sets the real limit).
    source_height, source_width: pixels of the picture the camera took, 1..16384.
    network_height, network_width: pixels of the canvas the head saw, multiples of 32, 32..2048.
    sigma_crc: CRC-32 of the sigma indexes, 0..2**32-1.
    Raises BitstreamTooLarge for a side above its limit, CorruptBitstream for any other bad value.
    """

    codec_digest: bytes
    prompt_digest: bytes
    rate_fixed: int
    source_height: int
    source_width: int
    network_height: int
    network_width: int
    sigma_crc: int

    def __post_init__(self) -> None:
        _check_digest("codec digest", self.codec_digest)
        _check_digest("prompt digest", self.prompt_digest)
        _check_unsigned("rate", self.rate_fixed, 16)
        _check_unsigned("sigma CRC", self.sigma_crc, 32)
        _check_side("source height", self.source_height, 1, MAX_SOURCE_SIDE)
        _check_side("source width", self.source_width, 1, MAX_SOURCE_SIDE)
        _check_side("network height", self.network_height, SIZE_MULTIPLE, MAX_NETWORK_SIDE)
        _check_side("network width", self.network_width, SIZE_MULTIPLE, MAX_NETWORK_SIDE)


@dataclass(frozen=True)
class Bitstream:
    """A header, the substream of the hyper-latent z and the substream of the latent y."""

    header: Header
    z: bytes
    y: bytes


def serialize(bitstream: Bitstream) -> bytes:
    """Lay out a bitstream as v1 bytes. Raises BitstreamTooLarge above MAX_BITSTREAM_BYTES."""
    header = bitstream.header
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        0,
        header.codec_digest,
        header.prompt_digest,
        header.rate_fixed,
        header.source_height,
        header.source_width,
        header.network_height // SIZE_MULTIPLE,
        header.network_width // SIZE_MULTIPLE,
        header.sigma_crc,
    )
    parts = (fixed, varint(len(bitstream.z)), varint(len(bitstream.y)), bitstream.z, bitstream.y)
    check_total(sum(len(part) for part in parts) + _CRC.size)
    body = b"".join(parts)
    return body + _CRC.pack(google_crc32c.value(body))


def parse(data: bytes | memoryview) -> Bitstream:
    """Read v1 bytes; the exact inverse of `serialize`.

    Raises BitstreamTooLarge, UnsupportedVersion or CorruptBitstream. Whether this side holds the codec
    and prompt of the digests, and whether the rate is one of theirs, is for the caller to check next.
    """
    check_total(len(data))
    data = bytes(data)
    if not data.startswith(MAGIC):
        raise CorruptBitstream(
            f"starts with {data[:4].hex() or 'nothing'}, not with {MAGIC.hex()}: no bitstream"
        )
    if len(data) > len(MAGIC) and data[4] != VERSION:
        raise UnsupportedVersion(
            f"bitstream version {data[4]}; this side reads {VERSION}: update the older side"
        )
    if len(data) < _MIN_BYTES:
        raise CorruptBitstream(f"{len(data)} bytes; the smallest bitstream has {_MIN_BYTES}: send it again")
    end = len(data) - _CRC.size
    (stored,) = _CRC.unpack_from(data, end)
    if google_crc32c.value(data[:end]) != stored:
        raise CorruptBitstream("CRC-32C does not match: damaged or truncated on the way; send it again")
    _, _, flags, codec, prompt, rate, source_h, source_w, network_h, network_w, crc = _FIXED.unpack_from(data)
    if flags:
        raise UnsupportedVersion(f"flags {flags:#04x} are unknown to this side: update the older side")
    z_bytes, start = read_varint(data, _FIXED.size, end)
    y_bytes, start = read_varint(data, start, end)
    if start + z_bytes + y_bytes != end:
        raise CorruptBitstream(f"substreams claim {z_bytes} + {y_bytes} bytes; {end - start} are there")
    header = Header(
        codec, prompt, rate, source_h, source_w, network_h * SIZE_MULTIPLE, network_w * SIZE_MULTIPLE, crc
    )
    return Bitstream(header, data[start : start + z_bytes], data[start + z_bytes : end])


def varint(value: int) -> bytes:
    """Unsigned LEB128 in its shortest form."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Value of the varint at `start`, and the offset behind it; reads nothing at or after `end`."""
    value = 0
    for position in range(start, min(start + MAX_VARINT_BYTES, end)):
        byte = data[position]
        value |= (byte & 0x7F) << 7 * (position - start)
        if byte < 0x80:
            if byte == 0 and position > start:
                raise CorruptBitstream(f"length at offset {start} is not in its shortest form")
            return value, position + 1
    raise CorruptBitstream(f"length at offset {start} does not end within {MAX_VARINT_BYTES} bytes")


def check_total(num_bytes: int) -> None:
    """BitstreamTooLarge above MAX_BITSTREAM_BYTES."""
    if num_bytes > MAX_BITSTREAM_BYTES:
        raise BitstreamTooLarge(f"{num_bytes} bytes; the limit is {MAX_BITSTREAM_BYTES}: send less")


def _check_digest(name: str, digest: bytes) -> None:
    if len(digest) != DIGEST_BYTES:
        raise CorruptBitstream(f"{name} has {len(digest)} bytes; pass {DIGEST_BYTES}")


def _check_unsigned(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise CorruptBitstream(f"{name} {value} does not fit {bits} bits")


def _check_side(name: str, value: int, unit: int, limit: int) -> None:
    if value > limit:
        raise BitstreamTooLarge(f"{name} {value} pixels; the limit is {limit}: scale the picture down")
    if value < unit or value % unit:
        raise CorruptBitstream(f"{name} {value} pixels; it must be a multiple of {unit}, at least {unit}")

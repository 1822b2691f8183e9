"""Bitstream v2: a frame that holds cells of the one before. Full specification: docs/bitstream.md, section 9.

    offset size field
         0    1 kind            B2; a key frame is a v1 bitstream and begins with 8B
         1    4 state           first 4 bytes of the name of the state that it builds on
         5    2 sigma check     low 16 bits of the CRC-32 of the sigma indexes
         7  1-4 mask length     varint, bytes
         .  1-4 z length        varint, bytes
         .    m mask substream  range coder
         .    z z substream     rANS, of the positions that are not held; empty for none
         .    y y substream     rANS, of the cells that are not held; empty for none
         .    4 CRC-32C         of every byte before it

What a key frame's header says holds for the frames that follow it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import google_crc32c

from splitcodec.bitstream import MAGIC, check_total, read_varint, varint
from splitcodec.errors import CorruptBitstream, UnsupportedVersion

KIND: Final = 0xB2
NAME_BYTES: Final = 4
_FIXED: Final = struct.Struct("<B4sH")
_CRC: Final = struct.Struct("<I")
_MIN_BYTES: Final = _FIXED.size + 2 + _CRC.size


@dataclass(frozen=True)
class HeldBitstream:
    """state: NAME_BYTES bytes; sigma_check: 0..65535; the substreams."""

    state: bytes
    sigma_check: int
    mask: bytes
    z: bytes
    y: bytes


def is_held(data: bytes) -> bool:
    """Whether bytes are meant as a frame that holds cells; `parse_held` tells whether they are one."""
    return data[:1] == bytes([KIND])


def serialize_held(frame: HeldBitstream) -> bytes:
    """v2 bytes. BitstreamTooLarge above MAX_BITSTREAM_BYTES."""
    parts = (
        _FIXED.pack(KIND, frame.state, frame.sigma_check),
        varint(len(frame.mask)),
        varint(len(frame.z)),
        frame.mask,
        frame.z,
        frame.y,
    )
    check_total(sum(len(part) for part in parts) + _CRC.size)
    body = b"".join(parts)
    return body + _CRC.pack(google_crc32c.value(body))


def parse_held(data: bytes | memoryview) -> HeldBitstream:
    """The exact inverse of `serialize_held`. BitstreamTooLarge, UnsupportedVersion, CorruptBitstream."""
    check_total(len(data))
    data = bytes(data)
    if data.startswith(MAGIC[:1]):
        raise UnsupportedVersion("a key frame, where a frame that builds on one is read: parse it as v1")
    if not is_held(data):
        raise CorruptBitstream(f"starts with {data[:1].hex() or 'nothing'}, not {KIND:02x}: no held frame")
    if len(data) < _MIN_BYTES:
        raise CorruptBitstream(f"{len(data)} bytes; the smallest held frame has {_MIN_BYTES}: send it again")
    end = len(data) - _CRC.size
    (stored,) = _CRC.unpack_from(data, end)
    if google_crc32c.value(data[:end]) != stored:
        raise CorruptBitstream("CRC-32C does not match: damaged or truncated on the way; send it again")
    _, state, check = _FIXED.unpack_from(data)
    mask_bytes, start = read_varint(data, _FIXED.size, end)
    z_bytes, start = read_varint(data, start, end)
    if start + mask_bytes + z_bytes > end:
        raise CorruptBitstream(f"substreams claim {mask_bytes} + {z_bytes} bytes; {end - start} are there")
    mask_end, z_end = start + mask_bytes, start + mask_bytes + z_bytes
    return HeldBitstream(state, check, data[start:mask_end], data[mask_end:z_end], data[z_end:end])

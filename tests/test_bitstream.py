"""The layout of bitstream v1: round trips, limits and what is refused."""

import dataclasses
import tracemalloc

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitcodec.bitstream import (
    MAGIC,
    MAX_BITSTREAM_BYTES,
    MAX_HEADER_BYTES,
    Bitstream,
    Header,
    parse,
    serialize,
)
from splitcodec.errors import BitstreamError, BitstreamTooLarge, CorruptBitstream, UnsupportedVersion

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)
HEADER = Header(bytes(range(8)), bytes(range(8, 16)), 300, 480, 640, 416, 416, 0xDEADBEEF)

headers = st.builds(
    Header,
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 65535),
    st.integers(1, 16384),
    st.integers(1, 16384),
    st.integers(1, 64).map(lambda units: 32 * units),
    st.integers(1, 64).map(lambda units: 32 * units),
    st.integers(0, 2**32 - 1),
)


def reseal(body: bytes) -> bytes:
    """Put a right CRC-32C behind a forged body."""
    return body + google_crc32c.value(body).to_bytes(4, "little")


@quick
@given(headers, st.binary(max_size=300), st.binary(max_size=300))
def test_round_trip(header, z, y):
    bitstream = Bitstream(header, z, y)
    data = serialize(bitstream)
    assert parse(data) == bitstream
    assert parse(memoryview(data)) == bitstream
    assert len(data) - len(z) - len(y) <= MAX_HEADER_BYTES


@quick
@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_refused_or_are_the_one_form_of_their_bitstream(body, after_magic):
    data = reseal(MAGIC + b"\1\0" + body if after_magic else body)
    try:
        bitstream = parse(data)
    except BitstreamError:
        return
    assert serialize(bitstream) == data


@quick
@given(headers, st.binary(max_size=20), st.data())
def test_every_flipped_bit_is_refused(header, y, draw):
    data = bytearray(serialize(Bitstream(header, b"z", y)))
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BitstreamError):
        parse(bytes(data))


def test_header_takes_at_most_48_bytes():
    y = bytes(MAX_BITSTREAM_BYTES - MAX_HEADER_BYTES - 1)
    assert MAX_HEADER_BYTES <= 48
    assert len(serialize(Bitstream(HEADER, b"", y))) - len(y) <= MAX_HEADER_BYTES


def test_largest_bitstream_is_taken_and_one_byte_more_is_not():
    overhead = len(serialize(Bitstream(HEADER, b"", bytes(3 << 20)))) - (3 << 20)
    largest = Bitstream(HEADER, b"", bytes(MAX_BITSTREAM_BYTES - overhead))
    data = serialize(largest)
    assert len(data) == MAX_BITSTREAM_BYTES
    assert parse(data) == largest
    with pytest.raises(BitstreamTooLarge, match=str(MAX_BITSTREAM_BYTES + 1)):
        serialize(dataclasses.replace(largest, y=largest.y + b"\0"))
    with pytest.raises(BitstreamTooLarge, match=str(MAX_BITSTREAM_BYTES + 1)):
        parse(data + b"\0")


def test_too_many_bytes_are_refused_before_they_are_copied():
    data = bytes(64 << 20)
    tracemalloc.start()
    with pytest.raises(BitstreamTooLarge):
        parse(memoryview(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("length", [0, 1, 4, 5, 33, 34, 39])
def test_anything_shorter_than_the_header_is_refused(length):
    with pytest.raises(CorruptBitstream):
        parse(serialize(Bitstream(HEADER, b"", b""))[:length])


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_named(version):
    with pytest.raises(UnsupportedVersion, match=f"version {version};"):
        parse(MAGIC + bytes([version]))


@pytest.mark.parametrize(
    ("lengths", "z_and_y"),
    [
        (b"\x80\x00\x00", b""),  # 0 in two bytes
        (b"\x81\x80\x00\x00", b"z"),  # 1 in three bytes
        (b"\x00\x80\x00", b""),
        (b"\xff\xff\xff\xff\x01\x00", b""),  # five bytes
        (b"\x80\x80\x80\x80", b""),
        (b"\x80\x80", b""),  # runs into the checksum
        (b"\x00\x00", b"y"),  # left over
        (b"\x01\x01", b"z"),  # missing
        (b"\xff\xff\xff\x7f\xff\xff\xff\x7f", b""),
    ],
)
def test_lengths_that_lie_are_refused(lengths, z_and_y):
    fixed = serialize(Bitstream(HEADER, b"", b""))[:34]
    with pytest.raises(CorruptBitstream, match=r"length|claim"):
        parse(reseal(fixed + lengths + z_and_y))


@pytest.mark.parametrize("flags", [1, 0x80])
def test_unknown_flags_are_refused(flags):
    body = bytearray(serialize(Bitstream(HEADER, b"", b""))[:-4])
    body[5] = flags
    with pytest.raises(UnsupportedVersion, match="flags"):
        parse(reseal(bytes(body)))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"codec_digest": b"short"}, CorruptBitstream),
        ({"prompt_digest": bytes(32)}, CorruptBitstream),
        ({"rate_fixed": -1}, CorruptBitstream),
        ({"rate_fixed": 65536}, CorruptBitstream),
        ({"sigma_crc": 2**32}, CorruptBitstream),
        ({"source_height": 0}, CorruptBitstream),
        ({"source_width": 16385}, BitstreamTooLarge),
        ({"network_height": 0}, CorruptBitstream),
        ({"network_height": 416 + 1}, CorruptBitstream),
        ({"network_width": 2048 + 32}, BitstreamTooLarge),
    ],
)
def test_header_refuses_values_outside_their_limits(change, error):
    with pytest.raises(error):
        dataclasses.replace(HEADER, **change)

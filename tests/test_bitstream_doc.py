"""docs/bitstream.md: a second decoder written from it alone decodes frozen bytes, and its examples are true.

`SecondDecoder` must not import from splitcodec: it is the proof that the page is enough.
"""

import re
import struct
import zlib
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from splitcodec import entropy
from splitcodec.bitstream import Bitstream, Header, parse, serialize
from splitcodec.entropy.rans import encode_groups, table_model

DOC = (Path(__file__).parents[1] / "docs" / "bitstream.md").read_text(encoding="utf-8")
Frame = tuple[Header, np.ndarray, np.ndarray, np.ndarray]


def rans_decode(data, rows):
    """Section 4: symbols decoded from `data`, symbol i with rows[i], a list of (symbol value, count)."""
    assert not data.endswith(b"\0")
    data += bytes(-len(data) % 4)
    words = list(struct.unpack(f"<{len(data) // 4}I", data))
    state = 0
    for _ in range(2):
        if words:
            state = state << 32 | words.pop()
    out = []
    for row in rows:
        q = state & (2**24 - 1)
        before = 0
        for symbol, count in row:  # noqa: B007  the last one stays
            if q < before + count:
                break
            before += count
        state = (state >> 24) * count + (q - before)
        if state < 2**32 and words:
            state = state << 32 | words.pop()
        assert state < 2**64
        out.append(symbol)
    assert state == 0x5C0D
    assert not words
    return out


def read_varint(data, offset):
    value = shift = 0
    while True:
        byte = data[offset]
        value += (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return value, offset


class SecondDecoder:
    """Sections 1 to 4 and 6, but for the networks: the sigma indexes are handed in."""

    def __init__(self, data):
        assert data[:6] == bytes([0x8B, 0x53, 0x50, 0x43, 1, 0])
        self.codec_digest, self.prompt_digest = data[6:14], data[14:22]
        self.rate, self.source_height, self.source_width = struct.unpack("<3H", data[22:28])
        self.network_height, self.network_width = 32 * data[28], 32 * data[29]
        (self.sigma_crc,) = struct.unpack("<I", data[30:34])
        z_length, offset = read_varint(data, 34)
        y_length, offset = read_varint(data, offset)
        self.z, self.y = data[offset : offset + z_length], data[offset + z_length : -4]
        assert len(self.y) == y_length
        assert struct.unpack("<I", data[-4:]) == (google_crc32c.value(data[:-4]),)

    def z_symbols(self, z_counts):
        """z_counts[k][channel] is a list of 63 counts."""
        tables = z_counts[(self.rate + 128) >> 8]
        hz, wz = -(-self.network_height // 64), -(-self.network_width // 64)
        rows = []
        for table in tables:
            rows += [list(zip(range(-31, 32), table, strict=True))] * (hz * wz)
        return np.array(rans_decode(self.z, rows)).reshape(len(tables), hz, wz)

    def y_symbols(self, index, y_limit, y_counts):
        assert index.shape[1:] == (self.network_height // 16, self.network_width // 16)
        assert zlib.crc32(bytes(index.flatten().tolist())) == self.sigma_crc
        flat = index.flatten().tolist()
        positions = [p for level in range(64) for p in range(len(flat)) if flat[p] == level]
        middle = len(y_counts[0]) // 2
        table = [
            [(s, int(counts[middle + s])) for s in range(-int(limit), int(limit) + 1)]
            for limit, counts in zip(y_limit, y_counts, strict=True)
        ]
        out = [0] * len(flat)
        symbols = rans_decode(self.y, [table[flat[p]] for p in positions])
        for position, symbol in zip(positions, symbols, strict=True):
            out[position] = symbol
        return np.array(out).reshape(index.shape)


def numbers(seed: int, amount: int) -> np.ndarray:
    """`amount` numbers in 0..2**15-1 of the C standard's example generator: the same everywhere, always."""
    out = []
    for _ in range(amount):
        seed = (seed * 1103515245 + 12345) % 2**31
        out.append(seed >> 16)
    return np.array(out, dtype=np.int64)


def z_row(shift: int) -> list[int]:
    """2**22 at symbol 0, halved with every step away and by `shift`, at least 1; symbol 0 takes the rest."""
    counts = [max(1, (1 << 22) >> (abs(symbol) + shift)) for symbol in range(-31, 32)]
    counts[31] += 2**24 - sum(counts)
    return counts


def z_tables(channels: int) -> np.ndarray:
    """(4, channels, 63) int32: rate point k and channel c have z_row((k + c) % 3)."""
    return np.array([[z_row((k + c) % 3) for c in range(channels)] for k in range(4)], dtype=np.int32)


def frame(source: tuple[int, int], network: tuple[int, int], channels: tuple[int, int], rate: int) -> Frame:
    """A header, z, sigma index and y of whole-number noise."""
    (height, width), (cy, cz) = network, channels
    index_shape = (cy, height // 16, width // 16)
    z_shape = (cz, -(-height // 64), -(-width // 64))
    amount = int(np.prod(index_shape))
    index = np.minimum(*(numbers(seed, amount) % 64 for seed in (rate + 1, rate + 2))).astype(np.uint8)
    spread = 1 + index.astype(np.int64) // 8
    y = (numbers(rate + 3, amount) % (2 * spread + 1) - spread).astype(np.int32).reshape(index_shape)
    z = (numbers(rate + 4, int(np.prod(z_shape))) % 7 - 3).astype(np.int32).reshape(z_shape)
    index = index.reshape(index_shape)
    digests = bytes.fromhex("00112233445566778899aabbccddeeff")
    crc = entropy.sigma_crc(index)
    return Header(digests[:8], digests[8:], rate, *source, height, width, crc), z, index, y


FRAMES = {
    "v1_1x1.bin": frame((1, 1), (32, 32), (4, 2), 0),
    "v1_65x129.bin": frame((65, 129), (96, 160), (16, 4), 300),
    "v1_480x640.bin": frame((480, 640), (416, 416), (24, 8), 768),
    "v1_16384x16384.bin": frame((16384, 16384), (2048, 2048), (1, 1), 128),
}


@pytest.mark.parametrize("name", FRAMES)
def test_v1_bytes_never_change(name, golden):
    header, z, index, y = FRAMES[name]
    counts = entropy.ZTables(z_tables(len(z))).at_rate(header.rate_fixed)
    tables = entropy.build_gaussian_tables()
    y_bytes = entropy.encode_symbols(y, index, tables)
    data = serialize(Bitstream(header, entropy.encode_hyper(z, counts), y_bytes))
    assert data == golden(name, data)


@pytest.mark.parametrize("name", FRAMES)
def test_v1_files_decode_to_what_went_in(name, golden):
    header, z, index, y = FRAMES[name]
    bitstream = parse(golden(name))
    counts = entropy.ZTables(z_tables(len(z))).at_rate(header.rate_fixed)
    assert bitstream.header == header
    np.testing.assert_array_equal(entropy.decode_hyper(bitstream.z, z.shape, counts), z)
    tables = entropy.build_gaussian_tables()
    np.testing.assert_array_equal(entropy.decode_symbols(bitstream.y, index, tables), y)


@pytest.mark.parametrize("name", FRAMES)
def test_second_decoder_reads_v1_files(name, golden):
    header, z, index, y = FRAMES[name]
    decoder = SecondDecoder(golden(name))
    for field in ("codec_digest", "prompt_digest", "source_height", "source_width", "sigma_crc"):
        assert getattr(decoder, field) == getattr(header, field)
    assert decoder.rate == header.rate_fixed
    np.testing.assert_array_equal(decoder.z_symbols(z_tables(len(z)).tolist()), z)
    tables = entropy.build_gaussian_tables()
    np.testing.assert_array_equal(decoder.y_symbols(index, tables.limit, tables.counts), y)


def hex_after(sentence: str) -> bytes:
    """The indented hex block that follows a sentence of the page."""
    block = re.search(re.escape(sentence) + r"[^\n]*\n\n((?:    .*\n)+)", DOC)
    assert block, sentence
    return bytes.fromhex("".join(line.split("#")[0] for line in block[1].splitlines()))


def test_worked_examples_of_the_coder_are_true():
    counts = np.array([4194304, 8388608, 4194304], dtype=np.int32)
    row = list(enumerate(counts.tolist()))
    for sentence, symbols in [
        ("the symbols `1 0 2 1` are the substream", [1, 0, 2, 1]),
        ("Forty times `1`, then five times `0 2`", [1] * 40 + [0, 2] * 5),
    ]:
        data = encode_groups(np.array(symbols, dtype=np.int32), [(table_model(counts), len(symbols))])
        assert hex_after(sentence).rstrip(b"\0") == data
        assert rans_decode(data, [row] * len(symbols)) == symbols


def test_worked_example_of_a_bitstream_is_the_golden_file(golden):
    assert hex_after("**A whole bitstream.**") == golden("v1_1x1.bin")


def test_checksums_of_the_page_are_true():
    assert google_crc32c.value(b"123456789") == 0xE3069283
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert "`E3069283`" in DOC
    assert "`CBF43926`" in DOC


def test_layout_table_of_the_page_is_the_layout_of_the_module():
    import splitcodec.bitstream

    module = re.findall(
        r"^ +(\d+) +([\d-]+) (\w+(?: \w+)?)  ", splitcodec.bitstream.__doc__ or "", re.MULTILINE
    )
    page = re.findall(r"^\| (\d+) \| ([\d.]+) \| (.*?) \|", DOC, re.MULTILINE)
    assert len(module) == 12
    assert [(o, b.replace("-", ".."), n.lower()) for o, b, n in module] == [
        (o, b, n.lower()) for o, b, n in page
    ]

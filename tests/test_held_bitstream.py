"""Bitstream v2: frozen bytes, hostile bytes, a second decoder written from docs/bitstream.md, section 9."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bitstream_doc import FRAMES, numbers, rans_decode, read_varint, z_tables

from splitcodec import entropy, errors, held_bitstream
from splitcodec.bitstream import parse
from splitcodec.codec.held import coded_latent, first_state, held_positions
from splitcodec.held_bitstream import HeldBitstream, is_held, parse_held, serialize_held

DOC = (Path(__file__).parents[1] / "docs" / "bitstream.md").read_text(encoding="utf-8")
HEADER, Z, INDEX, Y = FRAMES["v1_65x129.bin"]
COUNTS = entropy.ZTables(z_tables(len(Z))).at_rate(HEADER.rate_fixed)
TABLES = entropy.build_gaussian_tables()
HELD = np.array([[0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]], np.bool_)
SOUND = HeldBitstream(b"name", 0xABCD, b"\x12\x34", b"zz", b"yyy")


def name_by_the_page(before: bytes, held: np.ndarray | None, z: np.ndarray, symbols: np.ndarray) -> bytes:
    mask = b""
    if held is not None:
        bits = [int(bit) for bit in held.flatten()] + [0] * (-held.size % 8)
        mask = bytes(sum(bits[i + k] << (7 - k) for k in range(8)) for i in range(0, len(bits), 8))
    numbers_ = [int(value) for array in (z, symbols) for value in array.flatten()]
    return hashlib.sha256(before + mask + struct.pack(f"<{len(numbers_)}h", *numbers_)).digest()


def mask_by_the_page(data: bytes, before: np.ndarray) -> np.ndarray:
    chance = [512, 2048, 2048, 3072, 1024, 3072, 3072, 3968]
    size, code, position = 2**32 - 1, int.from_bytes((data + bytes(4))[:4], "big"), 4
    held = np.zeros_like(before)
    for row, column in np.ndindex(before.shape):
        context = int(column > 0 and held[row, column - 1]) + 2 * int(row > 0 and held[row - 1, column])
        context += 4 * int(before[row, column])
        bound = (size >> 12) * chance[context]
        if code < bound:
            held[row, column], size = True, bound
            chance[context] += (4096 - chance[context]) >> 4
        else:
            code, size = code - bound, size - bound
            chance[context] -= chance[context] >> 4
        while size < 2**24:
            size, code = size << 8, code << 8 | (data[position] if position < len(data) else 0)
            position += 1
    return held


def second_frame() -> tuple[bytes, np.ndarray, np.ndarray]:
    """The golden frame, its z, and its coded y symbols."""
    state = first_state(HEADER, None, np.zeros((1, *Y.shape)), Z, Y)  # type: ignore[arg-type]
    kept, where = held_positions(HELD), coded_latent(HELD)
    z = np.where(kept, Z, (numbers(9, Z.size) % 7 - 3).astype(np.int32).reshape(Z.shape))
    y = Y[:, ::-1][:, where].copy()
    index = INDEX[:, ::-1][:, where].copy()
    frame = HeldBitstream(
        state=state.wire_name,
        sigma_check=entropy.sigma_crc(INDEX) & 0xFFFF,
        mask=entropy.encode_mask(HELD, state.held),
        z=entropy.encode_hyper(z[:, ~kept][:, :, None], COUNTS),
        y=entropy.encode_symbols(y, index, TABLES),
    )
    return serialize_held(frame), z, y


def test_v2_bytes_never_change(golden):
    data, _, _ = second_frame()
    assert data == golden("v2_96x160.bin", data)


def test_second_decoder_reads_the_v2_file(golden):
    data, z, y = golden("v2_96x160.bin"), *second_frame()[1:]
    key = parse(golden("v1_65x129.bin")).header
    before = key.codec_digest + key.prompt_digest
    before += struct.pack("<5H", key.rate_fixed, 65, 129, 96, 160)
    name = name_by_the_page(before, None, Z, Y)
    assert data[0] == 0xB2
    assert data[1:5] == name[:4]
    assert struct.unpack("<H", data[5:7])[0] == entropy.sigma_crc(INDEX) & 0xFFFF
    mask_length, offset = read_varint(data, 7)
    z_length, offset = read_varint(data, offset)
    mask, rest = data[offset : offset + mask_length], data[offset + mask_length : -4]
    assert struct.unpack("<I", data[-4:]) == (google_crc32c.value(data[:-4]),)
    held = mask_by_the_page(mask, np.zeros((3, 5), np.bool_))
    assert (held == HELD).all()
    kept = held_positions(held)
    rows = [list(zip(range(-31, 32), counts, strict=True)) for counts in COUNTS.tolist()]
    coded = rans_decode(rest[:z_length], [row for row in rows for _ in range(int((~kept).sum()))])
    assert coded == z[:, ~kept].flatten().tolist()
    where = np.kron(~held, np.ones((2, 2), np.bool_)).astype(np.bool_)
    index = INDEX[:, ::-1][:, where].flatten().tolist()
    order = sorted(range(len(index)), key=lambda place: (index[place], place))
    middle = TABLES.counts.shape[1] // 2
    tables = [
        [(s, int(counts[middle + s])) for s in range(-int(limit), int(limit) + 1)]
        for limit, counts in zip(TABLES.limit, TABLES.counts, strict=True)
    ]
    symbols = [0] * len(index)
    for place, symbol in zip(
        order, rans_decode(rest[z_length:], [tables[index[p]] for p in order]), strict=True
    ):
        symbols[place] = symbol
    assert symbols == y.flatten().tolist()
    state = first_state(HEADER, None, np.zeros((1, *Y.shape)), Z, Y)  # type: ignore[arg-type]
    assert state.name == name
    assert state.after(held, state.latent, z, y).name == name_by_the_page(name, held, z, y)


@given(
    st.builds(
        HeldBitstream,
        state=st.binary(min_size=4, max_size=4),
        sigma_check=st.integers(0, 65535),
        mask=st.binary(max_size=200),
        z=st.binary(max_size=200),
        y=st.binary(max_size=200),
    )
)
def test_what_was_laid_out_is_read_back_and_takes_14_bytes_at_most(frame: HeldBitstream) -> None:
    data = serialize_held(frame)
    assert is_held(data)
    assert parse_held(data) == frame
    beside = len(data) - len(frame.mask) - len(frame.z) - len(frame.y)
    assert beside == 13 + (len(frame.mask) > 127) + (len(frame.z) > 127)


def sealed(body: bytes) -> bytes:
    return body + google_crc32c.value(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", errors.CorruptBitstream, "starts with nothing"),
        (b"\x8bSPC" + bytes(50), errors.UnsupportedVersion, "a key frame"),
        (b"\xb3" + bytes(50), errors.CorruptBitstream, "starts with b3"),
        (b"\xb2" + bytes(11), errors.CorruptBitstream, "12 bytes; the smallest held frame has 13"),
        (serialize_held(SOUND)[:-1], errors.CorruptBitstream, "CRC-32C does not match"),
        (sealed(b"\xb2name\0\0\x80\0" + bytes(9)), errors.CorruptBitstream, "not in its shortest form"),
        (sealed(b"\xb2name\0\0\xff\xff\xff\xff\x7f"), errors.CorruptBitstream, "does not end within 4 bytes"),
        (sealed(b"\xb2name\0\0\x05\x01abc"), errors.CorruptBitstream, r"claim 5 \+ 1 bytes; 3 are there"),
        (b"\xb2" + bytes(4 << 20), errors.BitstreamTooLarge, "the limit is 4194304"),
    ],
)
def test_hostile_bytes_are_refused_before_anything_is_decoded(
    data: bytes, error: type[errors.SplitcodecError], said: str
) -> None:
    with pytest.raises(error, match=said):
        parse_held(data)


def test_every_flipped_bit_is_seen() -> None:
    data = serialize_held(SOUND)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(errors.BitstreamError):
            parse_held(bytes(flipped))


@given(
    rows=st.integers(1, 64), columns=st.integers(1, 64), share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1)
)
def test_a_mask_comes_back_whatever_came_before(rows: int, columns: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    held, former = rng.random((2, rows, columns)) < share
    data = entropy.encode_mask(held, former)
    assert (entropy.decode_mask(data, former) == held).all()
    assert len(data) <= rows * columns // 2 + 8


@given(data=st.binary(max_size=12), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_bytes_are_a_mask_in_one_form_only(data: bytes, rows: int, columns: int) -> None:
    former = np.zeros((rows, columns), np.bool_)
    try:
        held = entropy.decode_mask(data, former)
    except errors.CorruptBitstream:
        return
    assert entropy.encode_mask(held, former) == data


def test_a_scene_that_rests_costs_no_mask() -> None:
    whole = np.ones((13, 13), np.bool_)
    assert entropy.encode_mask(whole, whole) == b""


def test_layout_table_of_the_page_is_the_layout_of_the_module() -> None:
    module = re.findall(r"^ +(\d+) +([\d-]+) (\w+(?: \w+)?)  ", held_bitstream.__doc__ or "", re.MULTILINE)
    page = re.findall(r"^\| `(\d+)` \| `([\d.]+)` \| (.*?) \|", DOC, re.MULTILINE)
    assert len(module) == 4
    assert [(o, b.replace("-", ".."), n) for o, b, n in module] == page

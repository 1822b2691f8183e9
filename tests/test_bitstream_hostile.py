"""The files in tests/hostile: each is refused by the error its README names, at the stage it names."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from splitcodec import entropy, errors
from splitcodec.bitstream import Bitstream, Header, parse, serialize

FOLDER = Path(__file__).parent / "hostile"
ROWS = re.findall(
    r"^\| (\w+\.bin) \| .* \| (\w+) \| (\w+) \|$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE
)
UNSEALED = 7  # the first rows of the README: files without a right checksum

TABLES = entropy.build_gaussian_tables()
INDEX = (np.arange(3 * 6 * 10) % 30).astype(np.uint8).reshape(3, 6, 10)
Y = (np.arange(3 * 6 * 10) % 7 // 6).astype(np.int32).reshape(3, 6, 10)
Z = (np.arange(2 * 2 * 3) % 5 - 2).astype(np.int32).reshape(2, 2, 3)
Z_ROW = np.array([1 << 12] * 31 + [(1 << 24) - 62 * (1 << 12)] + [1 << 12] * 31, dtype=np.int32)
Z_TABLES = entropy.ZTables(np.tile(Z_ROW, (4, 2, 1)))
HEADER = Header(b"codec-id", b"promptid", 256, 65, 129, 96, 160, entropy.sigma_crc(INDEX))
SOUND = Bitstream(
    HEADER, entropy.encode_hyper(Z, Z_TABLES.at_rate(256)), entropy.encode_symbols(Y, INDEX, TABLES)
)
DATA = serialize(SOUND)


def sealed(body: bytes) -> bytes:
    return body + google_crc32c.value(body).to_bytes(4, "little")


def patched(offset: int, new: bytes) -> bytes:
    return sealed(DATA[:offset] + new + DATA[offset + len(new) : -4])


def with_lengths(lengths: bytes, z: bytes = SOUND.z, y: bytes = SOUND.y) -> bytes:
    return sealed(DATA[:34] + lengths + z + y)


def with_header(**change: object) -> bytes:
    return serialize(dataclasses.replace(SOUND, header=dataclasses.replace(HEADER, **change)))


def with_streams(**change: bytes) -> bytes:
    return serialize(dataclasses.replace(SOUND, **change))


Z_LENGTH, Y_LENGTH = DATA[34:35], DATA[35:36]
FILES: dict[str, tuple[Callable[[], bytes], str]] = {  # what makes the file, what its refusal says
    "empty.bin": (lambda: b"", "starts with nothing"),
    "jpeg.bin": (
        lambda: bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043"),
        "starts with ffd8ffe0",
    ),
    "truncated_header.bin": (lambda: DATA[:30], "30 bytes; the smallest"),
    "truncated.bin": (lambda: DATA[:-7], "CRC-32C"),
    "flipped_bit.bin": (lambda: DATA[:60] + bytes([DATA[60] ^ 4]) + DATA[61:], "CRC-32C"),
    "trailing_byte.bin": (lambda: DATA + b"\0", "CRC-32C"),
    "version_2.bin": (lambda: DATA[:4] + b"\2" + DATA[5:], "version 2"),
    "unknown_flag.bin": (lambda: patched(5, b"\x40"), "flags 0x40"),
    "length_beyond_end.bin": (lambda: with_lengths(Z_LENGTH + b"\xff\xff\xff\x7f"), r"\+ 268435455 bytes"),
    "length_too_short.bin": (lambda: with_lengths(Z_LENGTH + bytes([Y_LENGTH[0] - 1])), "substreams claim"),
    "length_padded.bin": (
        lambda: with_lengths(bytes([Z_LENGTH[0] | 0x80, 0]) + Y_LENGTH),
        "offset 34 is not in its shortest form",
    ),
    "length_endless.bin": (lambda: with_lengths(b"\xff" * 4 + Y_LENGTH), "offset 34 does not end"),
    "length_into_checksum.bin": (
        lambda: sealed(DATA[:34] + b"\x00\x80\x80"),
        "offset 35 does not end",
    ),
    "network_8160x8160.bin": (lambda: patched(28, b"\xff\xff"), "network height 8160 "),
    "network_0x160.bin": (lambda: patched(28, b"\0"), "network height 0 "),
    "source_65535x65535.bin": (lambda: patched(24, b"\xff" * 4), "source height 65535 "),
    "source_0x129.bin": (lambda: patched(24, b"\0\0"), "source height 0 "),
    "wrong_codec_digest.bin": (lambda: with_header(codec_digest=b"codec-ie"), "codec_digest"),
    "wrong_prompt_digest.bin": (lambda: with_header(prompt_digest=b"promptie"), "prompt_digest"),
    "rate_255.bin": (lambda: with_header(rate_fixed=0xFFFF), "rate 255"),
    "wrong_sigma_crc.bin": (lambda: with_header(sigma_crc=HEADER.sigma_crc ^ 1), "sigma_crc"),
    "z_empty.bin": (lambda: with_streams(z=b""), "symbol 12;"),
    "z_leftover.bin": (lambda: with_streams(z=SOUND.z + b"\1\2\3\4\5"), "symbol 12;"),
    "y_truncated.bin": (lambda: with_streams(y=SOUND.y[: len(SOUND.y) // 2]), "symbol 180;"),
    "y_leftover.bin": (lambda: with_streams(y=SOUND.y + b"\1\2\3\4\5"), "symbol 180;"),
    "y_zero_padded.bin": (lambda: with_streams(y=SOUND.y + bytes(4)), "zero byte"),
    "y_ones.bin": (lambda: with_streams(y=b"\xff" * 4000), "4000 bytes .* symbol 180;"),
    "substreams_swapped.bin": (lambda: with_streams(z=SOUND.y, y=SOUND.z), "symbol 12;"),
}


def decode(bitstream: Bitstream) -> tuple[np.ndarray, np.ndarray]:
    counts = Z_TABLES.at_rate(bitstream.header.rate_fixed)
    z = entropy.decode_hyper(bitstream.z, Z.shape, counts)
    return z, entropy.decode_symbols(bitstream.y, INDEX, TABLES)


def test_the_sound_frame_decodes():
    assert tuple(DATA[34:36]) == (len(SOUND.z), len(SOUND.y))  # the makers above count on one-byte lengths
    z, y = decode(parse(DATA))
    np.testing.assert_array_equal(z, Z)
    np.testing.assert_array_equal(y, Y)


def test_readme_lists_every_file():
    on_disk = sorted(path.name for path in FOLDER.glob("*.bin"))
    assert sorted(name for name, _, _ in ROWS) == sorted(FILES) == on_disk


@pytest.mark.parametrize("name", FILES)
def test_files_are_what_they_claim(name, request):
    if request.config.getoption("--regen"):
        (FOLDER / name).write_bytes(FILES[name][0]())
    assert (FOLDER / name).read_bytes() == FILES[name][0]()


@pytest.mark.parametrize(("name", "error", "stage"), ROWS)
def test_hostile_file_is_refused_where_its_readme_says(name, error, stage):
    data = (FOLDER / name).read_bytes()
    reason = FILES[name][1]
    expected = getattr(errors, error)
    if stage == "codec":  # FeatureDecoder refuses it, because exactly this field is not what its pack gives
        header = parse(data).header
        assert [
            f.name for f in dataclasses.fields(Header) if getattr(header, f.name) != getattr(HEADER, f.name)
        ] == [reason]
        return
    bitstream = parse(data) if stage == "entropy" else None
    with pytest.raises(expected, match=reason) as caught:
        parse(data) if bitstream is None else decode(bitstream)
    assert type(caught.value) is expected


@pytest.mark.parametrize("name", [name for name, _, _ in ROWS[UNSEALED:]])
def test_forged_files_carry_a_right_checksum(name):
    data = (FOLDER / name).read_bytes()
    assert google_crc32c.value(data[:-4]) == int.from_bytes(data[-4:], "little")

"""Pictures that cost far more than they weigh, decoded by a process that may take little memory and time."""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

MAX_EXTRA_MIB = 64
MAX_CPU_S = 2.0
CHILD = """
import json, resource, sys, time
from pathlib import Path
from splitcodec.frame import decode_picture
from splitcodec.errors import FrameError
decode_picture(Path(sys.argv[1]).read_bytes())
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = size + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[3:]:
    data = Path(path).read_bytes()
    started = time.process_time()
    try:
        decode_picture(data, None)
        outcome = "decoded"
    except FrameError as error:
        outcome = f"{type(error).__name__}: {error}"
    print(json.dumps([outcome, time.process_time() - started]))
"""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def small() -> Image.Image:
    return Image.fromarray(np.arange(32 * 48 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 48, 3))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, idat: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def zeros(num_bytes: int) -> bytes:
    return zlib.compress(bytes(num_bytes), 1)


def jpeg_of_65k() -> bytes:
    data = bytearray(saved(small(), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = b"\xff\xdc\xff\xdc"  # 65500, the most that libjpeg itself takes
    return bytes(data)


def progressive_with_scans(count: int) -> bytes:
    data = saved(small(), "JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    return data[: starts[1]] + data[starts[1] : starts[2]] * count + data[starts[1] :]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png_of_16384x16384_that_is_whole": (
        lambda: png(16384, 16384, zeros(16384 * (1 + 3 * 16384) // 4)),
        "FrameTooLarge",
    ),
    "png_that_says_2_to_the_31": (lambda: png(2**31 - 1, 2**31 - 1, zeros(9)), "FrameTooLarge"),
    "png_that_inflates_past_its_size": (lambda: png(8, 8, zeros(1 << 28)), "decoded|BrokenFrame"),
    "png_with_a_text_that_inflates": (
        lambda: png(8, 8, zeros(8 * 25), chunk(b"zTXt", b"a\0\0" + zeros(1 << 28))),
        "decoded|BrokenFrame",
    ),
    "png_with_a_profile_that_inflates": (
        lambda: png(8, 8, zeros(8 * 25), chunk(b"iCCP", b"a\0\0" + zeros(1 << 28))),
        "decoded|BrokenFrame",
    ),
    "jpeg_of_65500x65500": (jpeg_of_65k, "FrameTooLarge"),
    "jpeg_with_5000_scans": (lambda: progressive_with_scans(5000), "FrameTooLarge: .* 5010 scans"),
    "jpeg_with_repeated_scans": (lambda: progressive_with_scans(50), "BrokenFrame"),
    "webp_that_says_16384x16384": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0" * 2,
        "FrameTooLarge",
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """What a process with little memory made of each bomb, and its seconds of CPU."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "sound").write_bytes(saved(small(), "PNG"))
    for name, (make, _) in BOMBS.items():
        (folder / name).write_bytes(make())
        assert (folder / name).stat().st_size < 2 << 20
    command = [sys.executable, "-c", CHILD, str(folder / "sound"), str(MAX_EXTRA_MIB)]
    done = subprocess.run(
        [*command, *(str(folder / name) for name in BOMBS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(BOMBS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bomb_costs_neither_memory_nor_time(name: str, outcomes: dict[str, tuple[str, float]]) -> None:
    outcome, seconds = outcomes[name]
    assert re.match(BOMBS[name][1], outcome), outcome
    assert seconds < MAX_CPU_S

"""Shared fixtures: the pack that ships, a codec, and golden files, which `pytest --regen` writes anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from edge.codec import Codec
    from splitcodec.packs import Pack

# The suite draws the same examples on every run, and no clock decides one; `make fuzz` looks for new ones.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

# torch.export reasons about sizes with sympy, whose cache of a thousand entries is too small for a codec.
os.environ.setdefault("SYMPY_CACHE_SIZE", "None")

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str, bytes | None], bytes]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regen", action="store_true", help="write the golden files anew, then review the diff")


@pytest.fixture(scope="session")
def default_pack() -> Pack:
    """The pack inside the library, verified, no session opened."""
    from splitcodec.packs import load_pack

    return load_pack("default")


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """The edge's codec on the tiny pack."""
    from edge_rig import tiny_codec

    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name)` reads tests/golden/name; `golden(name, data)` writes it first under --regen."""

    def read(name: str, data: bytes | None = None) -> bytes:
        path = GOLDEN / name
        if data is not None and request.config.getoption("--regen"):
            path.write_bytes(data)
        return path.read_bytes()

    return read

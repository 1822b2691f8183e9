"""The threat table names tests that exist, and the tables of scopes are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from splitcodec.tokens import SCOPES

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_named_test_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_every_threat_names_its_test() -> None:
    threats = rows("Threats")
    assert len(threats) > 15
    for cells in threats:
        assert len(cells) == 4, cells
        assert re.search(r"`test_\w+\.py::test_\w+`", cells[3]), cells


def test_every_scope_is_explained() -> None:
    assert [cells[0].strip("`") for cells in rows("Tokens")] == list(SCOPES)

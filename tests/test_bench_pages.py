"""Pages show what the reports beside them say; `pytest --regen` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from splitcodec.bench.batch_command import BatchReport
from splitcodec.bench.memory_command import MemoryReport
from splitcodec.bench.pages import batches_block, memory_block, swap_block, swap_line
from splitcodec.bench.swap_command import SwapReport
from splitcodec.evaluation.pages import with_block

DOCS = Path(__file__).resolve().parent.parent / "docs"


def batches(source: str) -> str:
    report = TypeAdapter(BatchReport).validate_json((DOCS / "results" / source).read_bytes())
    return batches_block(report, source)


def memory(source: str) -> str:
    report = TypeAdapter(MemoryReport).validate_json((DOCS / "results" / source).read_bytes())
    return memory_block(report, source)


def swaps(source: str) -> str:
    report = TypeAdapter(SwapReport).validate_json((DOCS / "results" / source).read_bytes())
    assert report.faults.none
    return swap_block(report, source)


def one_line(source: str) -> str:
    report = TypeAdapter(SwapReport).validate_json((DOCS / "results" / source).read_bytes())
    assert report.faults.none
    return swap_line(report, source)


@pytest.mark.parametrize(
    ("page", "name", "render"),
    [
        ("prompts.md", "swaps", swaps),
        ("prompts.md", "swaps-trained", one_line),
        ("architecture.md", "batches", batches),
        ("operations.md", "memory", memory),
    ],
)
def test_the_page_shows_its_report(
    request: pytest.FixtureRequest, page: str, name: str, render: Callable[[str], str]
) -> None:
    text = (DOCS / page).read_text()
    expected = with_block(text, name, render(f"{name}.json"))
    if request.config.getoption("--regen"):
        (DOCS / page).write_text(expected)
        text = expected
    assert text == expected

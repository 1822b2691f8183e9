"""Shown numbers come from a report: README table and shipped pack equal the committed JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitcodec.errors import DatasetError
from splitcodec.evaluation.pages import latency_table, read_latency, with_block
from splitcodec.evaluation.publish import (
    LATENCY,
    TABLE,
    markdown_table,
    measured_rows,
    publish_command,
    read_report,
)
from splitcodec.packs import load_pack

ROOT = Path(__file__).resolve().parent.parent
REPORT = "docs/results/detect-coco-test.json"
LATENCY_REPORT = "results/latency.json"


def test_the_readme_table_is_the_reports() -> None:
    report = read_report(ROOT / REPORT)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_block(readme, TABLE, markdown_table(report, REPORT)) == readme


def test_the_latency_table_is_the_reports() -> None:
    report = read_latency(ROOT / "docs" / LATENCY_REPORT)
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert with_block(page, LATENCY, latency_table(report, LATENCY_REPORT)) == page
    assert report.codec_digest == load_pack("default").codec_digest


def test_the_shipped_pack_carries_the_reports_rows_and_digests() -> None:
    report, pack = read_report(ROOT / REPORT), load_pack("default")
    assert report.pack.codec_digest == pack.codec_digest
    assert report.pack.prompt_digest == pack.prompt("detect").digest
    assert pack.manifest.measured == measured_rows(report)


def test_bytes_are_monotone_in_rate_on_the_test_photos() -> None:
    ours = read_report(ROOT / REPORT).ours
    sizes = [row.bytes_per_frame for row in ours]
    assert len(sizes) >= 4
    assert sizes == sorted(sizes)
    assert [row.rate for row in ours] == sorted(row.rate for row in ours)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(DatasetError, match="once each"):
        with_block("no marks here", "x", "table")
    page = "a <!-- x:begin --> old <!-- x:end --> b"
    assert with_block(page, "x", "new") == "a <!-- x:begin -->\nnew\n<!-- x:end --> b"


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(DatasetError, match="no report"):
        read_report(path)
    with pytest.raises(DatasetError, match="no report"):
        read_latency(path)


@pytest.mark.parametrize("digest", ["codec_digest", "prompt_digest"])
def test_a_report_of_other_weights_is_not_published(tmp_path: Path, digest: str) -> None:
    text = (ROOT / REPORT).read_text()
    held = getattr(read_report(ROOT / REPORT).pack, digest)
    other = tmp_path / "other.json"
    other.write_text(text.replace(held, "0" * 64))
    with pytest.raises(DatasetError, match="measure that pack first"):
        publish_command(other, ROOT / "docs" / LATENCY_REPORT, tmp_path, ROOT / "splitcodec/packs/default")
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]

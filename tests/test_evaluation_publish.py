"""Shown numbers come from a report: README table and shipped pack equal the committed JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_rig import task_report, write_eval_report
from tiny_pack import write_three_tasks

from splitcodec.bench.latency_page import latency_table, read_latency
from splitcodec.errors import DatasetError
from splitcodec.evaluation.pages import with_block
from splitcodec.evaluation.report import EqualAccuracy, Report, Row, read_report
from splitcodec.packs import Pack, load_pack
from splitcodec.publish_command import (
    LATENCY,
    block_name,
    check_reports,
    markdown_table,
    measured_rows,
    publish_command,
    with_rows,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = [
    path
    for path in sorted((ROOT / "docs" / "results").glob("*.json"))
    if '"command": "splitcodec eval --pack' in path.read_text(encoding="utf-8")
]
LATENCY_REPORT = "results/latency.json"
METRICS = {"detect": ("map", "mAP"), "segment": ("miou", "mIoU"), "classify": ("top1", "top-1")}


def committed() -> list[Report]:
    return [read_report(path) for path in RESULTS]


def test_the_readme_tables_are_the_reports() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert RESULTS
    for path, report in zip(RESULTS, committed(), strict=True):
        for task in report.tasks:
            body = markdown_table(report, task, f"docs/results/{path.name}")
            assert with_block(readme, block_name(task.task), body) == readme


def test_the_latency_table_is_the_reports() -> None:
    report = read_latency(ROOT / "docs" / LATENCY_REPORT)
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert with_block(page, LATENCY, latency_table(report, LATENCY_REPORT)) == page
    assert report.codec_digest == load_pack("default").codec_digest


def test_the_shipped_pack_carries_the_reports_rows_and_digests() -> None:
    pack = load_pack("default")
    check_reports(pack, list(zip(RESULTS, committed(), strict=True)))
    assert pack.manifest.measured == measured_rows(committed())


def test_bytes_are_monotone_in_rate_on_the_test_photos() -> None:
    for task in (task for report in committed() for task in report.tasks):
        sizes = [row.bytes_per_frame for row in task.ours]
        assert len(sizes) >= 4
        assert sizes == sorted(sizes)
        assert [row.rate for row in task.ours] == sorted(row.rate for row in task.ours)


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(DatasetError, match="once each"):
        with_block("no marks here", "x", "table")
    page = "a <!-- x:begin --> old <!-- x:end --> b"
    assert with_block(page, "x", "new") == "a <!-- x:begin -->\nnew\n<!-- x:end --> b"


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("{}", '{"report_version": 1, "command": "", "pack": {}, "tasks": []}'):
        path.write_text(text)
        with pytest.raises(DatasetError, match="no report"):
            read_report(path)
    with pytest.raises(DatasetError, match="no report"):
        read_latency(path)


@pytest.mark.parametrize("missing", ["seconds", "provenance", "tasks"])
def test_a_report_that_lacks_a_field_is_refused(tmp_path: Path, missing: str) -> None:
    document = json.loads(RESULTS[0].read_text())
    del document[missing]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=f"no report of `splitcodec eval`.*\n{missing}"):
        read_report(path)


@pytest.mark.parametrize("digest", ["codec", "prompt"])
def test_a_report_of_other_weights_is_not_published(tmp_path: Path, digest: str) -> None:
    report = read_report(RESULTS[0])
    held = report.pack.codec_digest if digest == "codec" else report.tasks[0].prompt_digest
    other = tmp_path / "other.json"
    other.write_text(RESULTS[0].read_text().replace(held, "0" * 64))
    latency, pack = ROOT / "docs" / LATENCY_REPORT, ROOT / "splitcodec/packs/default"
    with pytest.raises(DatasetError, match=f"measured {digest}.* measure that pack first"):
        publish_command([other, *RESULTS[1:]], latency, tmp_path, pack)
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_three_tasks(tmp_path_factory.mktemp("packs") / "tiny")


def write_report(path: Path, pack: Pack, *tasks: str) -> Path:
    """A report of these tasks of a pack: a teacher, one rate and one JPEG."""
    rows = [_row("teacher", None, 0.75), _row("splitcodec", 1.0, 0.5), _row("jpeg", 9.0, 0.5)]
    reports = [
        task_report(
            task,
            METRICS[task],
            rows,
            data=f"{task}.tar",
            frames=4,
            prompt_digest=pack.prompt(task).digest,
            equal_accuracy=[EqualAccuracy(1.0, 0.5, 1234.5, "jpeg", 4321.4)],
        )
        for task in tasks
    ]
    return write_eval_report(path, pack.name, pack.codec_digest, reports)


def _row(codec: str, rate: float | None, accuracy: float) -> Row:
    size, bpp = (None, None) if rate is None else (1234.5, 0.25)
    detail = {"pixel_accuracy": 0.875}
    return Row(codec, rate, size, size, bpp, accuracy, 0.75 - accuracy, 0.125, 0.375, detail)


def test_each_task_has_its_own_table(three: Pack, tmp_path: Path) -> None:
    report = read_report(write_report(tmp_path / "r.json", three, "segment"))
    lines = markdown_table(report, report.tasks[0], "docs/results/r.json").splitlines()
    assert "| rate | bytes/frame | mIoU | drop | pixel accuracy | jpeg bytes |" in lines
    assert "| 1 | 1234 | 0.500 | 25.0 [12.5, 37.5] | 0.875 | 4321 |" in lines
    assert "(mIoU 0.750)" in lines[1]
    assert three.prompt("segment").digest[:16] in lines[-1]


def publish_three(three: Pack, root: Path, *reports: Path) -> Pack:
    """Publish into a source folder of three empty tables and a page; the pack as it is then."""
    write_three_tasks(root / "pack")
    marks = "".join(f"<!-- table-{task}:begin -->\n<!-- table-{task}:end -->\n" for task in METRICS)
    (root / "README.md").write_text(marks)
    (root / "docs").mkdir()
    (root / "docs/operations.md").write_text("<!-- latency:begin --><!-- latency:end -->")
    latency = json.loads((ROOT / "docs" / LATENCY_REPORT).read_text())
    (root / "latency.json").write_text(json.dumps({**latency, "codec_digest": three.codec_digest}))
    publish_command(list(reports), root / "latency.json", root, root / "pack")
    return load_pack(root / "pack")


def test_several_reports_fill_all_tables_the_card_and_the_manifest(three: Pack, tmp_path: Path) -> None:
    first = write_report(tmp_path / "a.json", three, "detect", "segment")
    pack = publish_three(three, tmp_path, first, write_report(tmp_path / "b.json", three, "classify"))
    readme = (tmp_path / "README.md").read_text()
    for task, (_, name) in METRICS.items():
        assert f"Task `{task}` on 4 photos of `{task}.tar`: real bytes, {name}," in readme
    assert [(row.task, row.rate, row.metrics) for row in pack.manifest.measured] == [
        (task, 1.0, {key: 0.5, "pixel_accuracy": 0.875, "drop": 0.25}) for task, (key, _) in METRICS.items()
    ]
    assert pack.codec_digest == three.codec_digest
    card = pack.file_bytes("MODEL_CARD.md").decode()
    assert "| classify | classify.tar | 1 | 1234 | 0.250 | top-1 | 0.500 | +0.250 |" in card
    assert with_rows(card, [read_report(first)]).count("## Measured") == 1


@pytest.mark.parametrize("tasks", [("detect",), ("detect", "segment", "classify", "detect")])
def test_reports_must_measure_every_task_once(three: Pack, tmp_path: Path, tasks: tuple[str, ...]) -> None:
    reports = [write_report(tmp_path / f"{k}.json", three, task) for k, task in enumerate(tasks)]
    with pytest.raises(DatasetError, match=r"the pack has \['classify', 'detect', 'segment'\]; each once"):
        publish_three(three, tmp_path, *reports)
    assert load_pack(tmp_path / "pack").manifest.measured == ()
    assert "Task" not in (tmp_path / "README.md").read_text()


def test_reports_of_pixels_alone_are_shown_but_not_published(three: Pack, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.json", three, "segment")
    path.write_text(path.read_text().replace('"splitcodec"', '"splitcodec-pixels"'))
    report = read_report(path)
    assert [row.codec for row in report.tasks[0].ours] == ["splitcodec-pixels"]
    with pytest.raises(DatasetError, match=r"r\.json measured segment as pixels alone; measure --student"):
        check_reports(three, [(path, report)])

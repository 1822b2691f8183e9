"""Clips of still cameras: every way is measured at real bytes against what the teacher sees."""

from __future__ import annotations

import re
import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tiny_pack
from evaluation_rig import write_detector
from tiny_tails import LABELS
from typer.testing import CliRunner

from splitcodec.cli import app
from splitcodec.errors import DatasetError
from splitcodec.evaluation.clip_report import read_clip_report, table, to_json
from splitcodec.evaluation.clip_video import code_clip, read_clip
from splitcodec.packs import load_pack
from splitcodec.packs.write import write_pack

SIZE = (96, 160)
DOCS = Path(__file__).resolve().parent.parent / "docs"


def pictures(count: int) -> list[np.ndarray]:
    """A square moves over a fixed background."""
    still = np.random.default_rng(0).integers(40, 90, (*SIZE, 3), dtype=np.uint8)
    shown = []
    for step in range(count):
        picture = still.copy()
        picture[32:64, 4 * step : 4 * step + 32] = 230
        shown.append(picture)
    return shown


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures at 12 a second."""
    path = tmp_path_factory.mktemp("clip") / "door.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in pictures(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_clip_is_read_at_the_pace_that_is_asked_for(clip: Path, tmp_path: Path) -> None:
    assert [len(read_clip(clip, fps)) for fps in (12, 6, 3, 100)] == [12, 6, 3, 12]
    assert len(read_clip(clip, 12, 5)) == 5
    assert read_clip(clip, 1)[0].shape == (*SIZE, 3)
    (tmp_path / "none.mp4").write_bytes(b"no video")
    for place in (tmp_path / "none.mp4", tmp_path / "nowhere.mp4"):
        with pytest.raises(DatasetError, match=r"cannot be read .*; give a video file"):
            read_clip(place, 5)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_video_comes_back_whole_and_costs_less_when_coarser(codec: str) -> None:
    shown = [picture[:95, :159] for picture in pictures(8)]
    fine, coarse = (code_clip(codec, shown, Fraction(5), crf, 4) for crf in (20, 45))
    assert coarse.num_bytes < fine.num_bytes
    assert [one.shape for one in fine.pictures] == [(95, 159, 3)] * 8
    errors = [
        np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(coded.pictures, shown, strict=True)])
        for coded in (fine, coarse)
    ]
    assert errors[0] < errors[1]
    single = sum(code_clip(codec, [one], Fraction(5), 20, 4).num_bytes for one in shown)
    assert fine.num_bytes < single  # a video leans on the picture before


@pytest.mark.slow
def test_the_command_of_the_page_reports_every_way(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pack(tmp_path / "pack", tiny_pack.holding())
    write_detector(tmp_path / "yolox.onnx", len(LABELS))
    shutil.copy(clip, tmp_path)
    monkeypatch.chdir(tmp_path)
    (line,) = re.findall(r"^splitcodec (eval --clip .*)$", (DOCS / "evaluation.md").read_text(), re.MULTILINE)
    out = tmp_path / "out" / "door.json"
    done = CliRunner().invoke(app, [*shlex.split(line), "--pack", "pack", "--rates", "0,2"])
    assert done.exit_code == 0, done.output
    report = read_clip_report(out)
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert (report.frames, report.fps, report.clip.file) == (5, 5, "door.mp4")
    kinds = [row.system for row in report.rows]
    assert kinds == [*(["single", *["gated"] * 3, *["held"] * 3] * 2), *["x264"] * 5, *["x265"] * 5]
    rates = {row.setting: row for row in report.rows if row.system == "single"}
    assert rates[0].bytes_per_frame < rates[2].bytes_per_frame
    for row in report.rows:
        assert 0 <= row.agreement <= row.agreement50 <= 1
        assert 0 <= row.low <= row.high <= 1
        assert (row.encode_ms is not None) == (row.system in ("single", "held"))
        if row.system == "gated":
            assert row.bytes_per_frame <= rates[row.setting].bytes_per_frame
        if row.system == "held":
            assert row.bytes_per_frame < rates[row.setting].bytes_per_frame
            assert row.held is not None
            assert row.held > 0
    assert all(line in done.output for line in table(report))
    assert to_json(report) == out.read_text()


def test_tasks_without_boxes_and_packs_that_cannot_hold_are_refused(clip: Path, tmp_path: Path) -> None:
    three = tmp_path / "three"
    write_pack(three, tiny_pack.three_tasks())
    teacher = write_detector(tmp_path / "teacher.onnx", len(LABELS))
    words = ["eval", "--clip", str(clip), "--json", str(tmp_path / "c.json"), "--pack", str(three)]
    words += ["--teacher", str(teacher)]
    for task, said in (("classify", "finds no boxes"), ("detect", "cannot hold cells")):
        done = CliRunner().invoke(app, [*words, "--task", task])
        assert done.exit_code != 0
        assert said in str(done.exception) + done.output


@pytest.mark.parametrize("clip", ["bottle-detection", "car-detection"])
def test_the_tables_of_the_page_are_the_reports(clip: str) -> None:
    report = read_clip_report(DOCS / "results" / f"{clip}.json")
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    assert "\n".join(table(report, rate=1.0)) in page
    assert report.command in page
    assert f"{report.frames} frames, {report.boxes} boxes" in page
    assert report.pack.codec_digest == load_pack("default").codec_digest

"""splitcodec.load: one object for both halves gives the bytes of the edge and the answers of the cloud."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_rig import picture
from tiny_pack import write_three_tasks, write_tiny_pack
from typer.testing import CliRunner

import splitcodec
from cloud.packs import PackRunner
from cloud.runner import TaskOutput, run_together
from splitcodec.cli import app
from splitcodec.errors import (
    BrokenFrame,
    CorruptBitstream,
    FrameTooLarge,
    PackMismatch,
    PackNotFound,
    RateOutOfRange,
    UnknownPrompt,
    UnknownTask,
    UnsupportedFrame,
)
from splitcodec.frame import read_picture
from splitcodec.sample_photos import packaged_photos
from splitcodec.tasks import ResultLimits

TASKS = ("detect", "segment", "classify")
HEIGHT, WIDTH = 120, 200


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> splitcodec.PictureCodec:
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_three_tasks(folder)
    return splitcodec.load(folder, "ort-cpu")


@pytest.fixture(scope="module")
def default_codec() -> splitcodec.PictureCodec:
    return splitcodec.load("default", "ort-cpu")


@pytest.fixture(scope="module")
def default_cloud(default_codec: splitcodec.PictureCodec) -> PackRunner:
    return PackRunner([default_codec.pack], "ort-cpu", 1, ResultLimits())


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_bytes_are_the_commands_and_the_answer_is_the_clouds(
    task: str, default_codec: splitcodec.PictureCodec, default_cloud: PackRunner, tmp_path: Path
) -> None:
    photo, out = packaged_photos()[-1], tmp_path / "photo.sc"
    words = ["encode", str(photo), "--out", str(out), "--task", task, "--rate", "1", "--engine", "ort-cpu"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    sent = default_codec.encode(photo, task, rate=1)
    assert sent.bitstream == out.read_bytes()
    assert (sent.num_bytes, sent.task, sent.rate) == (len(sent.bitstream), task, 1)
    with default_cloud.admit(sent.bitstream) as admitted:
        (output,) = run_together([admitted])
    assert isinstance(output, TaskOutput)
    assert default_codec.decode(sent.bitstream) == output.answer
    done = CliRunner().invoke(app, ["decode", str(out), "--engine", "ort-cpu"], catch_exceptions=False)
    told = {"task": task, **dataclasses.asdict(output.answer)}
    assert json.loads(done.output) == json.loads(json.dumps(told))


def test_a_path_bytes_and_pixels_are_one_picture(codec: splitcodec.PictureCodec, tmp_path: Path) -> None:
    data = picture(HEIGHT, WIDTH, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    pixels = read_picture(data)
    forms = [
        codec.encode(form).bitstream for form in (data, path, str(path), pixels, pixels[:, ::-1][:, ::-1])
    ]
    assert len(set(forms)) == 1


def test_the_rate_is_mid_range_unless_it_is_said(codec: splitcodec.PictureCodec) -> None:
    data = picture(HEIGHT, WIDTH)
    assert codec.encode(data).rate == (codec.pack.manifest.codec.rate_points - 1) / 2
    assert codec.encode(data, rate=0).rate == 0
    with pytest.raises(RateOutOfRange, match="choose one inside"):
        codec.encode(data, rate=99)


def test_a_bitstream_tells_its_task_and_limits_hold(codec: splitcodec.PictureCodec) -> None:
    for task in TASKS:
        assert codec.answer(codec.encode(picture(HEIGHT, WIDTH), task).bitstream)[0] == task
    sent = codec.encode(picture(HEIGHT, WIDTH), "classify").bitstream
    answer = codec.decode(sent, ResultLimits(top_classes=1))
    assert len(answer.classes) == 1  # type: ignore[union-attr]


def test_a_task_that_the_pack_has_not_is_named_with_those_it_has(codec: splitcodec.PictureCodec) -> None:
    with pytest.raises(
        UnknownTask, match=r"no task 'count'; its tasks are \['classify', 'detect', 'segment'\]"
    ):
        codec.encode(picture(HEIGHT, WIDTH), "count")


@pytest.mark.parametrize(
    ("field", "error"), [("codec_digest", PackMismatch), ("prompt_digest", UnknownPrompt)], ids=str
)
def test_a_bitstream_of_other_weights_is_refused(
    codec: splitcodec.PictureCodec, field: str, error: type[splitcodec.SplitcodecError]
) -> None:
    stream = splitcodec.parse(codec.encode(picture(HEIGHT, WIDTH)).bitstream)
    changes: dict[str, Any] = {field: bytes(8)}
    header = dataclasses.replace(stream.header, **changes)
    with pytest.raises(error, match="0000000000000000, this side holds"):
        codec.decode(splitcodec.serialize(dataclasses.replace(stream, header=header)))


@pytest.mark.slow
def test_a_bitstream_of_another_pack_is_refused(
    codec: splitcodec.PictureCodec, default_codec: splitcodec.PictureCodec
) -> None:
    with pytest.raises(PackMismatch, match="deploy that pack or re-encode"):
        default_codec.decode(codec.encode(picture(HEIGHT, WIDTH)).bitstream)


@pytest.mark.parametrize("at", [0, 20, -1], ids=["magic", "header", "end"])
def test_damaged_bytes_are_refused(codec: splitcodec.PictureCodec, at: int) -> None:
    data = bytearray(codec.encode(picture(HEIGHT, WIDTH)).bitstream)
    data[at] ^= 0x40
    with pytest.raises(CorruptBitstream):
        codec.decode(bytes(data))
    with pytest.raises(CorruptBitstream):
        codec.decode(b"")


def test_what_is_no_picture_is_refused_by_kind(codec: splitcodec.PictureCodec, tmp_path: Path) -> None:
    with pytest.raises(BrokenFrame, match=r"absent\.jpg cannot be read \(No such file"):
        codec.encode(tmp_path / "absent.jpg")
    with pytest.raises(UnsupportedFrame):
        codec.encode(b"%PDF-1.7")
    for pixels in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(UnsupportedFrame, match="give uint8"):
            codec.encode(pixels)
    with pytest.raises(FrameTooLarge, match="the longest side allowed is 16384"):
        codec.encode(np.zeros((1, 16385, 3), np.uint8))


def test_a_pack_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackNotFound, match="absent"):
        splitcodec.load(tmp_path / "absent")


def test_load_opens_no_graph_and_never_torch(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "tiny")
    code = (
        f"import sys, splitcodec; splitcodec.load({str(tmp_path / 'tiny')!r}); "
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False False", done.stdout + done.stderr

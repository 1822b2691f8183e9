"""A camera that does not move, from pictures to answers, as objects and as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_pack
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import splitcodec
from splitcodec import load
from splitcodec.cli import app
from splitcodec.errors import SettingsError, StateMismatch
from splitcodec.packs.write import write_pack
from splitcodec.still_camera import StillCameraDecoder, StillCameraEncoder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "holding"
    write_pack(folder, tiny_pack.holding())
    return folder


@pytest.fixture(scope="module")
def codec(place: Path) -> splitcodec.PictureCodec:
    return load(place, "ort-cpu")


def pictures(count: int, height: int = 120, width: int = 200) -> list[NDArray[np.uint8]]:
    """A square moves over a fixed background."""
    still = np.random.default_rng(0).integers(40, 90, (height, width, 3), dtype=np.uint8)
    shown = []
    for step in range(count):
        picture = still.copy()
        picture[40:80, 10 * step : 10 * step + 40] = 230
        shown.append(picture)
    return shown


def test_both_ends_follow_each_other_and_key_frames_come_when_they_are_due(
    codec: splitcodec.PictureCodec,
) -> None:
    sending, receiving = StillCameraEncoder(codec, key_frames=4), StillCameraDecoder(codec)
    kinds = []
    for picture in pictures(10):
        sent = sending.encode(picture)
        kinds.append(sent.bitstream[:1] == b"\x8b")
        assert receiving.decode(sent.bitstream) is not None
        assert (sent.held == 0) or not kinds[-1]
    assert kinds == [True, False, False, False] * 2 + [True, False]


def test_a_picture_of_another_size_begins_anew(codec: splitcodec.PictureCodec) -> None:
    sending, receiving = StillCameraEncoder(codec), StillCameraDecoder(codec)
    for picture in (pictures(1)[0], pictures(1, 100, 200)[0], pictures(1, 100, 200)[0]):
        sent = sending.encode(picture)
        receiving.decode(sent.bitstream)
    assert sent.held == 1
    sending.restart()
    assert sending.encode(pictures(1, 100, 200)[0]).held == 0


def test_a_missing_frame_is_an_error_and_a_key_frame_cures_it(codec: splitcodec.PictureCodec) -> None:
    sending, receiving = StillCameraEncoder(codec, worth=1e-4), StillCameraDecoder(codec)
    first, _, third, fourth = [sending.encode(picture).bitstream for picture in pictures(4)]
    receiving.decode(first)
    for lost in (third, fourth):
        with pytest.raises(StateMismatch, match="send a key frame"):
            receiving.decode(lost)
    sending.restart()
    receiving.decode(sending.encode(pictures(5)[4]).bitstream)


def test_a_pack_that_cannot_hold_cells_says_so(tmp_path: Path) -> None:
    tiny_pack.write_tiny_pack(tmp_path / "plain")
    with pytest.raises(SettingsError, match="cannot hold cells; export it again"):
        StillCameraEncoder(load(tmp_path / "plain"))


def test_a_recorded_chain_is_decoded_from_its_key_frame_on(place: Path, tmp_path: Path) -> None:
    shots = []
    for number, picture in enumerate(pictures(3)):
        shots.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(shots[-1])
    words = ["--pack", str(place), "--engine", "ort-cpu"]
    done = CliRunner().invoke(app, ["encode", *map(str, shots), "--out", str(tmp_path / "chain"), *words])
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "chain").iterdir())
    assert [file.name for file in files] == ["00001.sc", "00002.sc", "00003.sc"]
    assert "0% held" in done.output.splitlines()[0]
    done = CliRunner().invoke(app, ["decode", *map(str, files), *words])
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.output.splitlines()]
    assert [answer["task"] for answer in answers] == ["detect"] * 3
    done = CliRunner().invoke(app, ["decode", str(files[1]), *words])
    assert isinstance(done.exception, StateMismatch)

"""Frigate's side of its ZMQ detector protocol, against the real command and a real cloud."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_pack import write_tiny_pack
from tiny_tails import LABELS
from typer.testing import CliRunner

from splitcodec import load
from splitcodec.cli import app
from splitcodec.errors import CloudUnavailable, InvalidRequest
from splitcodec.frigate import COLUMNS, ROWS, FrigateDetector, picture_of, rows_of
from splitcodec.launch import start_service
from splitcodec.tasks import Box, ClassScores, Detection, Detections, TaskAnswer

zmq = pytest.importorskip("zmq", reason="pip install '.[frigate]'")
PATIENCE_MS = 60_000
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
CAT = Detection("cat", 0, 0.75, Box(12.0, 6.4, 48.0, 32.0))


def request(tensor: np.ndarray, **fields: Any) -> list[bytes]:
    """As Frigate's plug-in sends it."""
    header = {"shape": list(tensor.shape), "dtype": tensor.dtype.name, "model_type": "yologeneric", **fields}
    return [json.dumps(header).encode(), tensor.tobytes()]


def as_frigate_reads(frames: list[bytes]) -> np.ndarray | None:
    """The rows of a reply; None where the plug-in logs an error in place of rows."""
    try:
        header = json.loads(frames[0])
        values = np.frombuffer(frames[1], np.dtype(header.get("dtype", "float32")))
        return values.reshape(header.get("shape", []))
    except ValueError:
        return None


@pytest.mark.parametrize("first", [False, True], ids=["channels last", "channels first"])
@pytest.mark.parametrize("floats", [False, True], ids=["uint8", "float32"])
def test_every_form_of_a_tensor_is_the_same_picture(first: bool, floats: bool) -> None:
    tensor = PIXELS[None].transpose(0, 3, 1, 2) if first else PIXELS[None]
    tensor = (tensor / 255).astype(np.float32) if floats else tensor
    np.testing.assert_array_equal(picture_of(request(np.ascontiguousarray(tensor))), PIXELS)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([b"{}"], "1 frames came"),
        ([b"x" * 5000, b""], "send a JSON header"),
        ([b"{}", b""], "the header is malformed"),
        (request(PIXELS), "the header is malformed"),
        (request(PIXELS[None, :, :, :2]), r"\[1, 64, 96, 2\] came; send uint8 or float32"),
        (request(PIXELS[None], dtype="float64"), "a tensor of float64"),
        (request(PIXELS[None], shape=[1, 2**31, 2**31, 3]), "sides up to 2048"),
        (request(PIXELS[None], shape=[1, -64, -96, 3]), "sides up to 2048"),
        ([request(PIXELS[None])[0], b"short"], "the tensor has 5 bytes"),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_made_of_it(frames: list[bytes], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        picture_of(frames)


def test_boxes_are_shares_of_the_sides_and_no_more_than_twenty() -> None:
    rows = rows_of(Detections((CAT,) * 25), 64, 96)
    assert rows.shape == (ROWS, COLUMNS)
    np.testing.assert_allclose(rows[19], [0, 0.75, 0.1, 0.125, 0.5, 0.5])
    one = rows_of(Detections((CAT,)), 64, 96)
    assert not one[1:].any()


def test_a_picture_that_nobody_looked_at_is_never_answered_with_zeros(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_tiny_pack(tmp_path / "tiny")
    now = [0.0]
    answers: list[TaskAnswer] = [Detections((CAT,))]

    def infer(bitstream: bytes, task: str) -> TaskAnswer:
        if not answers:
            raise CloudUnavailable("the cloud is away; wait")
        return answers.pop()

    detector = FrigateDetector(load(tmp_path / "tiny"), infer, clock=lambda: now[0])
    found = as_frigate_reads(detector.reply(request(PIXELS[None])))
    assert found is not None
    assert found[0, 1] == 0.75
    for moment in (0.0, 30.0, 61.0):
        now[0] = moment
        frames = detector.reply(request(PIXELS[None]))
        assert as_frigate_reads(frames) is None
        assert json.loads(frames[0])["error"] == "CloudUnavailable: the cloud is away; wait"
    assert len([one for one in caplog.records if "CloudUnavailable" in one.message]) == 2
    answers.append(ClassScores(()))
    assert "finds boxes" in json.loads(detector.reply(request(PIXELS[None]))[0])["error"]
    assert "InvalidRequest" in json.loads(detector.reply([b"{}"])[0])["error"]


@contextmanager
def detecting(*flags: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The command as a process, and a REQ socket to it."""
    words = [sys.executable, "-m", "splitcodec.cli", "frigate-detector", "--listen=tcp://127.0.0.1:*", *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), process.communicate()
            with zmq.Context() as context, context.socket(zmq.REQ) as socket:
                socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(line.split()[-1])
                yield process, socket
        finally:
            process.kill()


@pytest.mark.slow
def test_frigate_gets_the_boxes_of_a_cloud_and_an_error_while_it_is_away(tmp_path: Path) -> None:
    write_tiny_pack(tmp_path / "tiny")
    pack = f"--packs={tmp_path / 'tiny'}"
    with start_service("cloud", [pack, f"--data-dir={tmp_path / 'data'}"], tmp_path) as cloud:
        target = f"127.0.0.1:{cloud.ports['grpc_port']}"
        flags = (f"--cloud={target}", f"--pack={tmp_path / 'tiny'}", "--deadline-s=30", "--threads=1")
        with detecting(*flags) as (process, socket):
            for _ in range(2):
                socket.send_multipart(request(PIXELS[None]))
                rows = as_frigate_reads(socket.recv_multipart())
                assert rows is not None
                assert rows.shape == (ROWS, COLUMNS)
                assert set(rows[rows[:, 1] > 0, 0]) <= {float(k) for k in range(len(LABELS))}
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    away = (*flags[1:2], "--cloud=127.0.0.1:9", "--deadline-s=0.5")
    with detecting(*away) as (_, socket):
        socket.send_multipart(request(PIXELS[None]))
        frames = socket.recv_multipart()
        assert as_frigate_reads(frames) is None
        assert "CloudUnavailable: the cloud at 127.0.0.1:9 gave" in json.loads(frames[0])["error"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--listen", "tcp://0.0.0.0:5555"], "knows no password"),
        (["--listen", "http://127.0.0.1:1"], "no tcp:// or ipc:// address"),
        (["--task", "walk"], "has no task 'walk'"),
    ],
)
def test_reasons_not_to_start(tmp_path: Path, flags: list[str], said: str) -> None:
    write_tiny_pack(tmp_path / "tiny")
    words = ["frigate-detector", "--cloud", "127.0.0.1:9", "--pack", str(tmp_path / "tiny"), *flags]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert said in str(done.exception)

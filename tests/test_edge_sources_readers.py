"""Readers of cameras that hang, are killed or break, and an RTSP server that goes away and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_sources_rig import PATIENCE_S, order, video, watching
from fault_proxy import fault_proxy
from waiting import until

from edge.codec import Codec
from edge.sources import camera as camera_module
from edge.sources.messages import HEADER, Said

__all__ = ["video"]

SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.slow


async def test_live_pictures_are_sent_on_after_a_failure(
    codec: Codec, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_module, "PAUSE_S", (0.01, 0.05))
    real, failures = camera_module.CameraReader._send_newest, [asyncio.CancelledError(), RuntimeError("no")]

    async def failing(self: camera_module.CameraReader) -> None:
        if failures:
            raise failures.pop()
        await real(self)

    monkeypatch.setattr(camera_module.CameraReader, "_send_newest", failing)
    async with watching(codec, tmp_path, f"file:{video}") as edge:
        await edge.rig.cloud.wait_for(frames=2)
        counter = edge.rig.pipeline.metrics.background_failures
        assert counter.labels("pictures")._value.get() == 2


@pytest.fixture
def fast_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "PAUSE_S", (0.01, 0.05))


@pytest.mark.usefixtures("fast_restarts")
async def test_a_killed_reader_is_started_again(codec: Codec, video: Path, tmp_path: Path) -> None:
    async with watching(codec, tmp_path, f"file:{video}") as edge:
        await edge.rig.cloud.wait_for(frames=1)
        assert edge.reader.pid is not None
        os.kill(edge.reader.pid, signal.SIGKILL)
        await edge.until("splitcodec_edge_source_restarts_total", 1, reason="failed")
        await edge.rig.cloud.wait_for(frames=len(edge.rig.cloud.frames) + 2)


@pytest.mark.usefixtures("fast_restarts")
async def test_a_hung_reader_is_killed_and_started_again(
    codec: Codec, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(codec, tmp_path, f"file:{video}", source_timeout_s=2.0) as edge:
        await edge.rig.cloud.wait_for(frames=1)
        hung = edge.reader.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await edge.until("splitcodec_edge_source_restarts_total", 1, reason="stalled")
        await edge.rig.cloud.wait_for(frames=len(edge.rig.cloud.frames) + 2)
        with pytest.raises(ProcessLookupError):
            os.kill(hung, 0)


async def test_readers_are_gone_when_the_edge_has_stopped(codec: Codec, video: Path, tmp_path: Path) -> None:
    async with watching(codec, tmp_path, f"file:{video}") as edge:
        await edge.rig.cloud.wait_for(frames=1)
        pid = edge.reader.pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_reader_dies_with_an_edge_that_was_killed(tmp_path: Path) -> None:
    text = order("folder", tmp_path).model_dump_json().encode() + b"\n"
    with subprocess.Popen(
        [sys.executable, "-m", "edge.sources.reader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(text)
        reader.stdin.flush()
        assert Said(HEADER.unpack(reader.stdout.read(HEADER.size))[0]) is Said.ALIVE
        reader.stdin.close()
        assert reader.wait(PATIENCE_S) == 0


def _has_rtsp_server() -> bool:
    if not SYSTEM_PYTHON.exists():
        return False
    probe = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer, Gst;"
        " Gst.init(None); raise SystemExit(not all(map(Gst.ElementFactory.find,"
        " ('qtdemux', 'h264parse', 'rtph264pay'))))"
    )
    return subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.fixture
def rtsp(video: Path) -> Iterator[int]:
    if not _has_rtsp_server():
        pytest.skip(
            "no GStreamer RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
            "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
        )
    script = Path(__file__).with_name("rtsp_server.py")
    with subprocess.Popen(
        [SYSTEM_PYTHON, script, video], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.usefixtures("fast_restarts")
async def test_an_rtsp_camera_is_read_and_read_again_after_it_broke(
    codec: Codec, rtsp: int, tmp_path: Path
) -> None:
    with fault_proxy(f"127.0.0.1:{rtsp}") as link:
        url = f"rtsp://user:secret@{link.address}/camera"
        async with watching(codec, tmp_path, url, source_timeout_s=4.0) as edge:
            await edge.rig.cloud.wait_for(frames=3)
            link.cut()  # a camera that was unplugged
            await edge.until("splitcodec_edge_source_restarts_total", 1, reason="failed")
            await edge.rig.cloud.wait_for(frames=len(edge.rig.cloud.frames) + 3)
            before = edge.restarts
            link.set(stalled=True)  # a camera that hangs: the connection stays
            await until(lambda: edge.restarts > before, PATIENCE_S)
            link.heal()
            await edge.rig.cloud.wait_for(frames=len(edge.rig.cloud.frames) + 3)


async def test_no_password_of_a_camera_reaches_a_log_or_a_command_line(
    codec: Codec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with watching(codec, tmp_path, "rtsp://user:hunter2@127.0.0.1:1/camera") as edge:
        await edge.until("splitcodec_edge_source_restarts_total", 1, reason="failed")
    assert "127.0.0.1:1" in caplog.text
    assert "hunter2" not in caplog.text

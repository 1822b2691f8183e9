"""Cameras the edge reads itself: real files, folders and an RTSP server; hung, killed and broken readers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from edge_rig import EdgeRig, edge_rig, picture, see_a_cat, tiny_codec
from fault_proxy import fault_proxy
from waiting import until

from edge.codec import Codec
from edge.settings import EdgeSettings, load_settings
from edge.sources import camera as camera_module
from edge.sources.address import Source, parse_sources
from edge.sources.fleet import checked_sources, reading_sources
from edge.sources.messages import HEADER, Message, ReaderOrder, Said
from edge.sources.process import SourceFailed, reader_process
from edge.sources.reader import _next_due
from splitcodec.errors import SettingsError
from splitcodec.frame import read_picture

av = pytest.importorskip("av", reason="reads and makes the videos of these tests: pip install '.[cameras]'")

PATIENCE_S = 60.0
SYSTEM_PYTHON = Path("/usr/bin/python3")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of H.264 at 10 frames a second: photos of scikit-image, one after another."""
    from skimage import data

    path = tmp_path_factory.mktemp("video") / "photos.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"g": "10", "bf": "0", "tune": "zerolatency"}
        for number in range(60):
            photo = (data.astronaut, data.chelsea, data.coffee)[number // 10 % 3]()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(photo[:240:2, :320:2]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def order(kind: str, place: Path | str, **fields: object) -> ReaderOrder:
    values = {"fps": 50.0, "timeout_s": 20.0, "max_bytes": 2**24, "max_pixels": 10**7, **fields}
    return ReaderOrder(kind=kind, place=str(place), **values)


async def pictures(what: ReaderOrder, count: int) -> list[Message]:
    """The first pictures of a reader."""
    found: list[Message] = []
    async with reader_process(what) as reader:
        while len(found) < count:
            message = await reader.next(PATIENCE_S)
            if message.said is Said.PICTURE:
                found.append(message)
    return found


@dataclass
class Watched:
    """An edge that reads one camera."""

    rig: EdgeRig
    reader: camera_module.CameraReader

    def metric(self, name: str, **labels: str) -> float:
        value = self.rig.pipeline.metrics.registry.get_sample_value(name, {"camera": "door", **labels})
        return value or 0.0

    @property
    def restarts(self) -> float:
        return sum(
            self.metric("splitcodec_edge_source_restarts_total", reason=why) for why in ("failed", "stalled")
        )

    async def until(self, name: str, at_least: float, **labels: str) -> None:
        await until(lambda: self.metric(name, **labels) >= at_least, PATIENCE_S)


@contextlib.asynccontextmanager
async def watching(codec: Codec, folder: Path, source: str, **options: object) -> AsyncIterator[Watched]:
    settings = {"source": (f"door={source}",), "source_fps": 20, **options}
    async with (
        edge_rig(codec, folder, **settings) as rig,
        reading_sources(rig.pipeline, checked_sources(rig.pipeline.settings)) as readers,
    ):
        yield Watched(rig, readers[0])


async def test_frames_of_a_video_file_reach_the_cloud_and_it_plays_again(
    codec: Codec, video: Path, tmp_path: Path
) -> None:
    async with watching(codec, tmp_path, f"file:{video}") as edge:
        await edge.rig.cloud.wait_for(frames=5)
        await edge.until("splitcodec_edge_frames_total", 3, task="detect", outcome="ok")
        keys = [frame.key for frame in edge.rig.cloud.frames]
        assert {key.camera for key in keys} == {"door"}
        assert [key.seq for key in keys] == sorted({key.seq for key in keys})
        assert edge.metric("splitcodec_edge_source_up") == 1
        assert edge.rig.pipeline.recent(1, "door")[0].found[0].label == "cat"


async def test_pictures_that_do_not_change_are_left_out_and_counted(codec: Codec, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, seed in enumerate([0, 0, 0, 1, 1]):
        (folder / f"{number}.jpg").write_bytes(picture(seed=seed))
    (folder / "5.jpg").write_bytes(b"no picture")
    options = {"source_fps": 100, "camera_min_change": {"door": 2}}
    async with watching(codec, tmp_path / "state", f"folder:{folder}", **options) as edge:
        await edge.until("splitcodec_edge_source_frames_total", 3, outcome="taken")
        assert edge.metric("splitcodec_edge_source_frames_total", outcome="unchanged") == 3
        await edge.rig.cloud.wait_for(frames=2)
        assert edge.rig.pipeline.recent(10, "door")[0].found[0].label == "cat"


async def test_a_video_of_a_still_scene_is_left_out(codec: Codec, tmp_path: Path, video: Path) -> None:
    async with watching(codec, tmp_path, f"file:{video}", source_min_change=255) as edge:
        await edge.until("splitcodec_edge_source_frames_total", 3, outcome="unchanged")
        assert edge.metric("splitcodec_edge_source_frames_total", outcome="taken") == 1


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


async def test_what_is_read_is_what_the_video_shows(video: Path) -> None:
    with av.open(str(video)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    (message,) = await pictures(order("file", video), 1)
    assert np.abs(read_picture(message.body).astype(int) - first).mean() < 6


def test_pictures_are_thinned_to_the_rate_asked_for() -> None:
    jitter = np.random.default_rng(0).uniform(0, 0.03, 1000)
    due, taken = 0.0, []
    for moment in 50 + np.arange(1000) / 10 + jitter:  # ten a second, for 100 seconds, not quite on the beat
        if moment >= due:
            taken.append(moment)
            due = _next_due(due, moment, 0.5)
    assert len(taken) == pytest.approx(200, abs=2)
    assert min(np.diff(taken)) > 0.35
    assert _next_due(10.0, 99.0, 0.5) == 99.5  # after a gap there is no burst


async def test_a_short_video_is_played_over_and_over(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (50, 100, 200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(await pictures(order("file", path), 7)) == 7


async def test_a_folder_is_sent_whole_in_order_then_what_comes(codec: Codec, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(picture(100 + number, 120))
    (folder / "notes.txt").write_text("no picture")
    async with watching(codec, tmp_path / "state", f"folder:{folder}", source_fps=100) as edge:
        await edge.rig.cloud.wait_for(frames=6)
        draft = folder / "draft"
        draft.write_bytes(picture(200, 120))
        draft.rename(folder / "late.png")  # what it is, its bytes say
        await edge.rig.cloud.wait_for(frames=7)
        await edge.until("splitcodec_edge_frames_total", 7, task="detect", outcome="ok")
        rows = [edge.rig.pipeline.report(row.id) for row in edge.rig.pipeline.recent(10, "door")]
        by_seq = sorted(rows, key=lambda report: report.seq)
        assert [report.source_height for report in by_seq] == [100, 101, 102, 103, 104, 105, 200]
        assert edge.metric("splitcodec_edge_source_frames_total", outcome="passed_over") == 0


async def test_newest_picture_wins_while_the_cloud_is_slow(codec: Codec, video: Path, tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slowly(frame, context):  # type: ignore[no-untyped-def]
        await gate.wait()
        return await see_a_cat(frame, context)

    async with watching(codec, tmp_path, f"file:{video}") as edge:
        edge.rig.cloud.answer = slowly
        await edge.until("splitcodec_edge_source_frames_total", 5, outcome="passed_over")
        assert len(edge.rig.cloud.frames) <= camera_module.AT_ONCE
        gate.set()
        await edge.rig.cloud.wait_for(frames=camera_module.AT_ONCE + 2)
        times = [frame.capture_time_unix_nanos for frame in edge.rig.cloud.frames]
        assert times == sorted(times)
        assert times[camera_module.AT_ONCE] - times[0] > 0.3e9  # those between were passed over


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


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        ("file", None, "FileNotFoundError"),
        ("file", b"no video at all", "InvalidDataError"),
        ("file", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n", "Error"),
        ("folder", None, "no such folder"),
    ],
)
async def test_what_cannot_be_read_ends_with_a_reason_that_names_no_place(
    tmp_path: Path, kind: str, content: bytes | None, why: str
) -> None:
    place = tmp_path / "secret-place.m3u8"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(SourceFailed, match=why) as caught:
        await pictures(order(kind, place), 1)
    assert "secret-place" not in str(caught.value)


async def test_too_large_a_video_is_refused_before_it_is_converted(video: Path) -> None:
    with pytest.raises(SourceFailed, match="160x120 is above 1000 pixels"):
        await pictures(order("file", video, max_pixels=1000), 1)


async def test_an_overlong_message_of_a_reader_is_refused(video: Path) -> None:
    async with reader_process(order("file", video)) as reader:
        reader._order = order("file", video, max_bytes=10)
        with pytest.raises(SourceFailed, match="limit 10"):
            await reader.next(PATIENCE_S)


def test_sources_are_named_and_their_passwords_are_not_shown() -> None:
    sources = parse_sources(["door=rtsp://user:pa=ss@box:8554/a,b", "file:/v/a=b.mp4", "v4l2:/dev/video0"])
    assert sources == (
        Source("door", "rtsp", "rtsp://user:pa=ss@box:8554/a,b"),
        Source("source-2", "file", "/v/a=b.mp4"),
        Source("source-3", "v4l2", "/dev/video0"),
    )
    assert sources[0].shown == "rtsp://box:8554/..."
    assert "pa=ss" not in repr(sources)
    for bad in (
        ["http://box"],
        ["rtsp://"],
        ["door"],
        ["file:"],
        ["a=file:/x", "a=file:/y"],
        ["rtsp://b:port/"],
    ):
        with pytest.raises(SettingsError):
            parse_sources(bad)


def test_flags_may_be_repeated_and_urls_may_hold_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("door=rtsp://u:p@box/a,b", "file:/x,y", "yard=folder:/z")
    flags = [word for one in given for word in ("--source", one)]
    assert load_settings(flags).source == given
    monkeypatch.setenv("SPLITCODEC_EDGE_SOURCE", "\n".join(given))
    assert load_settings([]).source == given
    assert "u:p@" not in repr(load_settings([]))
    with pytest.raises(SettingsError, match="more than max_cameras"):
        checked_sources(EdgeSettings(source=given, max_cameras=2))


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

"""Cameras the edge reads itself: what of real files and folders is sent, and how cameras are named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from edge_rig import picture, see_a_cat
from edge_sources_rig import PATIENCE_S, av, order, pictures, video, watching

from edge.codec import Codec
from edge.settings import EdgeSettings, load_settings
from edge.sources import camera as camera_module
from edge.sources.address import Source, parse_sources
from edge.sources.fleet import checked_sources
from edge.sources.process import SourceFailed, reader_process
from edge.sources.reader import _next_due
from splitcodec.errors import SettingsError
from splitcodec.frame import read_picture

__all__ = ["video"]

pytestmark = pytest.mark.slow


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

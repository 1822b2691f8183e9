"""The bench: its arithmetic, its photos, services as processes, and one short run on the pack that ships."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from splitcodec.bench.command import BenchOptions, app, command_line
from splitcodec.bench.latency import (
    EdgeConnection,
    FrameTimes,
    growth_per_1000,
    post_frames,
    spread,
    summarize,
)
from splitcodec.bench.photos import PostedPhoto, read_photos
from splitcodec.errors import CloudRefused, DatasetError, RuntimeUnavailable
from splitcodec.launch import Service, Services, start_service

STAGES = {
    "edge.decode": 0.004,
    "edge.head": 0.010,
    "edge.hyper": 0.002,
    "edge.context": 0.003,
    "edge.entropy": 0.001,
    "cloud.entropy": 0.002,
    "cloud.hyper": 0.001,
    "cloud.decoder": 0.008,
    "cloud.tail": 0.016,
    "cloud.postprocess": 0.001,
    "cloud.queue": 0.5,
}
PHOTO = PostedPhoto("a.jpg", "image/jpeg", b"\xff\xd8 a picture")


class FakeEdge(BaseHTTPRequestHandler):
    """Answers every post as an edge would; `status` and `posted` belong to the test that runs it."""

    protocol_version = "HTTP/1.1"
    status = 200
    posted: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, self.headers["Content-Type"], body))
        timings: dict[str, dict[str, float]] = {"edge": {}, "cloud": {}}
        for name, seconds in STAGES.items():
            side, _, stage = name.partition(".")
            timings[side][stage] = seconds
        answer = json.dumps({"num_bytes": 1234, "timings": timings}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def fake_edge(status: int = 200) -> Iterator[int]:
    """A FakeEdge on a free port."""
    FakeEdge.status, FakeEdge.posted = status, []
    with HTTPServer(("127.0.0.1", 0), FakeEdge) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_overhead_is_what_no_computing_stage_accounts_for() -> None:
    frame = FrameTimes(STAGES, wall=0.6, num_bytes=2000)
    assert frame.graphs == pytest.approx(0.040)
    assert frame.edge == pytest.approx(0.020)
    assert frame.overhead == pytest.approx(0.6 - 0.048)  # the queue is not computing


def test_the_summary_of_equal_frames_is_the_frame() -> None:
    latency = summarize([FrameTimes(STAGES, 0.054, 2000)] * 4)
    assert latency.frames == 4
    assert latency.stages["cloud.tail"].median_ms == latency.stages["cloud.tail"].p95_ms == 16.0
    assert latency.overhead.median_ms == pytest.approx(6.0)
    assert latency.overhead_share == pytest.approx(6 / 40)
    assert latency.entropy_share == pytest.approx(1 / 20)
    assert latency.bytes_per_frame == 2000


def test_median_and_percentile_are_in_milliseconds() -> None:
    values = spread([k / 1000 for k in range(101)])
    assert (values.median_ms, values.p95_ms) == (50.0, 95.0)


def test_growth_is_read_from_the_second_half() -> None:
    frames = list(range(100, 1100, 100))
    sizes = [50_000_000 + min(n, 500) * 1000 + max(0, n - 500) * 20 for n in frames]
    assert growth_per_1000(frames, sizes) == pytest.approx(20_000)
    assert growth_per_1000(frames, [None] * 10) is None
    assert growth_per_1000([1], [5]) is None


def test_a_post_carries_the_picture_and_reads_the_report() -> None:
    with fake_edge() as port, closing(EdgeConnection(port, rate=1.5)) as edge:
        first, second = edge.post(PHOTO), edge.post(PHOTO)
    assert FakeEdge.posted == [("/v1/frames?camera=bench&rate=1.5", "image/jpeg", PHOTO.data)] * 2
    assert first.stages == second.stages == STAGES
    assert first.num_bytes == 1234
    assert first.wall > 0


def test_a_refused_post_says_why() -> None:
    with (
        fake_edge(status=503) as port,
        closing(EdgeConnection(port, None)) as edge,
        pytest.raises(CloudRefused, match=r"a\.jpg: 503"),
    ):
        edge.post(PHOTO)


def test_warm_up_frames_do_not_count_and_memory_is_sampled_to_the_end() -> None:
    steps: list[int] = []
    with fake_edge() as port:
        gone = Service("cloud", pid=2**22 + 1, ports={}, start_s=0.0)  # above the kernel's largest pid
        services = Services(edge=Service("edge", 2**22 + 1, {"http_port": port}, 0.0), cloud=gone)
        times, memory = post_frames(services, [PHOTO], 5, 2, None, lambda: steps.append(1))
    assert (len(times), len(steps), len(FakeEdge.posted)) == (5, 7, 7)
    assert [sample.frames for sample in memory] == [1, 2, 3, 4, 5]
    assert memory[-1].edge_bytes is None


def picture_bytes() -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 80, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_photos_come_sorted_without_masks_and_limited(tmp_path: Path, kind: str) -> None:
    names = ["images/b.jpg", "images/a.PNG", "images/c.webp", "masks/a.png", "instances.json"]
    path = tmp_path / "photos"
    if kind == "folder":
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(name.encode())
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(name)
                tar.addfile(member, io.BytesIO(name.encode()))
    photos = read_photos(path, 2)
    assert photos == [
        PostedPhoto("a.PNG", "image/png", b"images/a.PNG"),
        PostedPhoto("b.jpg", "image/jpeg", b"images/b.jpg"),
    ]
    assert len(read_photos(path, 100)) == 3


def test_photos_behind_a_link_are_read(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.jpg").write_bytes(b"a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert read_photos(tmp_path / "data", 2) == [PostedPhoto("a.jpg", "image/jpeg", b"a")]


def test_no_photos_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no"):
        read_photos(tmp_path, 10)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_photos(tmp_path / "absent.tar", 10)


GOOD_SERVICE = """
import json, signal, sys
print(json.dumps({"event": "listening", "http_port": len(sys.argv)}), flush=True)
signal.pause()
"""


def test_a_service_is_up_once_it_listens_and_gone_after_the_block(tmp_path: Path) -> None:
    (tmp_path / "good_service.py").write_text(GOOD_SERVICE, encoding="utf-8")
    with start_service("good_service", ["--flag"], tmp_path) as service:
        assert service.ports == {"http_port": 3}  # the program, --port=0, --flag
        assert service.start_s > 0
        resident, peak = service.resident_bytes(), service.peak_bytes()
        assert resident is None or peak is None or 10**6 < resident <= peak
    assert service.resident_bytes() is None


def test_a_service_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "bad_service.py").write_text("raise SystemExit('no such pack')", encoding="utf-8")
    with (
        pytest.raises(RuntimeUnavailable, match=r"bad_service service ended; .*no such pack"),
        start_service("bad_service", [], tmp_path),
    ):
        pass


def test_the_command_in_the_report_names_files_but_no_folders() -> None:
    options = BenchOptions(Path("/data/x.tar"), Path("/out/b.json"), "default", 1.5, 10, 2, 2, "auto")
    assert command_line(options) == (
        "splitcodec bench latency --data x.tar --pack default --frames 10 --warmup 2 --cores 2 --engine auto"
        " --rate 1.5 --json b.json"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("default_pack")
def test_bench_measures_both_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitcodec.bench.command.pin_to_cores", lambda cores: None)
    (tmp_path / "photo.jpg").write_bytes(picture_bytes())
    out = tmp_path / "bench.json"
    words = ["latency", "--data", str(tmp_path), "--frames", "3", "--warmup", "1", "--json", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert {"edge.decode", *report["graph_stages"]} <= set(report["latency"]["stages"])
    assert report["latency"]["overhead"]["median_ms"] > 0
    assert report["edge"]["start_s"] > 0
    assert report["memory"][-1]["frames"] == 3

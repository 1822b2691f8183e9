"""Rate control on links that really get narrow: both services as processes, the shipped pack, real photos.

Timed against the clock, so it is a part of `make chaos` and not of `make test`; it prints what it measured.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos.process import ServiceProcess, metric
from fault_proxy import fault_proxy
from PIL import Image
from shaped_link import NoShaping, shaped_link

from splitcodec.bench.sequence import panned
from splitcodec.packs import Pack
from splitcodec.packs.rates import rate_points
from splitcodec.rate_control import BytesModel

FPS = 8.0
WIDE_S, NARROW_S = 6.0, 8.0
WIDE_KBPS, NARROW_KBPS = 2000.0, 200.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Sample:
    """What the edge said of itself at a time after the link fell: bits per second, and frames left out."""

    at: float
    allowed_bps: float
    link_bps: float


@dataclass(frozen=True)
class Installation:
    """A running edge behind a link, and the function that narrows it."""

    edge: ServiceProcess
    limit: Callable[[float], None]


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """A panning sequence as JPEG files."""
    demo = pytest.importorskip("skimage", reason="the photos come with scikit-image") and __import__(
        "splitcodec.sample_photos", fromlist=["packaged_photos"]
    )
    from splitcodec.frame import read_picture

    photos = [read_picture(path.read_bytes()) for path in demo.packaged_photos()[:1]]
    files = []
    for frame in panned(photos, WIDE_S + NARROW_S, FPS):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


@contextmanager
def behind_proxy(folder: Path, flags: list[str]) -> Iterator[Installation]:
    cloud = ServiceProcess("cloud", [f"--data-dir={folder / 'cloud'}", "--metrics-port=0"], folder)
    with fault_proxy(cloud.address) as proxy:
        target = f"--cloud-target={proxy.address}"
        edge = ServiceProcess("edge", [target, f"--state-dir={folder / 'edge'}", *flags], folder)
        with running(cloud, edge):
            yield Installation(edge, lambda kbps: proxy.set(up_bps=1000 * kbps, delay_s=0.01))


@contextmanager
def behind_kernel_queue(folder: Path, flags: list[str]) -> Iterator[Installation]:
    try:
        with shaped_link() as link:
            cloud_flags = [f"--data-dir={folder / 'cloud'}", "--metrics-port=0", "--insecure"]
            cloud = ServiceProcess("cloud", cloud_flags, folder, host=link.near)
            edge_flags = [f"--cloud-target={cloud.address}", f"--state-dir={folder / 'edge'}", "--insecure"]
            edge = ServiceProcess("edge", [*edge_flags, *flags], folder, host=link.far, prefix=link.prefix)
            with running(cloud, edge):
                yield Installation(edge, link.limit)
    except NoShaping as reason:
        pytest.skip(str(reason))


@contextmanager
def running(cloud: ServiceProcess, edge: ServiceProcess) -> Iterator[None]:
    try:
        cloud.start()
        edge.start()
        yield
    finally:
        edge.stop()
        cloud.stop()


def film(
    installation: Installation, pictures: list[bytes], watch: Callable[[float], None]
) -> list[tuple[float, int]]:
    """Posts the sequence at FPS, narrows the link after WIDE_S; (second, HTTP status) of every frame."""
    edge = installation.edge

    def post(data: bytes) -> int:
        with closing(http.client.HTTPConnection(edge.host, edge.port, timeout=30)) as connection:
            connection.request("POST", "/v1/frames?camera=door&wait=0", data, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
            return response.status

    installation.limit(WIDE_KBPS)
    answers: list[tuple[float, concurrent.futures.Future[int]]] = []
    narrowed = False
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for index, picture in enumerate(pictures):
            due = started + index / FPS
            time.sleep(max(0.0, due - time.monotonic()))
            if not narrowed and time.monotonic() - started >= WIDE_S:
                installation.limit(NARROW_KBPS)
                narrowed = True
            answers.append((time.monotonic() - started, pool.submit(post, picture)))
            watch(time.monotonic() - started)
        return [(at, answer.result()) for at, answer in answers]


@pytest.mark.parametrize("link", [behind_proxy, behind_kernel_queue], ids=["proxy", "tbf"])
def test_a_real_link_that_falls_to_a_tenth_is_met_within_two_seconds(
    link: Callable[..., Iterator[Installation]],
    pictures: list[bytes],
    default_pack: Pack,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    points = rate_points(default_pack.manifest, "detect")
    middle = BytesModel(points).num_bytes(points.max_rate / 2)
    target_kbps = max(8 * middle * FPS / 1000, 1.2 * NARROW_KBPS)
    flags = [f"--target-kbps={target_kbps:.1f}", "--over-target=thin", "--threads=1"]
    with link(tmp_path, flags) as installation:
        samples: list[Sample] = []

        def watch(at: float) -> None:
            samples.append(
                Sample(at, *(8 * metric_of(installation.edge, name) for name in ("allowed", "link")))
            )

        answers = film(installation, pictures, watch)
    if (late := samples[-1].at - (len(pictures) - 1) / FPS) > 1.0:
        pytest.skip(f"this machine filmed {late:.0f} s behind the clock; its reaction cannot be timed")
    met = [s.at - WIDE_S for s in samples if s.at > WIDE_S and s.allowed_bps <= 1.05 * 1000 * NARROW_KBPS]
    statuses = sorted({status for _, status in answers})
    with capsys.disabled():
        print(
            json.dumps(
                {
                    "link": link.__name__, "target_kbps": round(target_kbps, 1), "frames": len(answers),
                    "left_out": sum(status == 429 for _, status in answers),
                    "reaction_s": round(met[0], 2) if met else None,
                    "allowed_kbps_at_end": round(samples[-1].allowed_bps / 1000, 1),
                    "link_kbps_at_end": round(samples[-1].link_bps / 1000, 1),
                }
            )
        )  # fmt: skip
    before = [sample.allowed_bps for sample in samples if 1 < sample.at < WIDE_S]
    assert min(before) >= 0.99 * 1000 * target_kbps, "the wide link must not be taken for a narrow one"
    assert met, "the fall was not noticed"
    assert met[0] <= 2.0
    assert set(statuses) <= {200, 202, 429}
    assert samples[-1].allowed_bps <= 1.2 * 1000 * NARROW_KBPS


def metric_of(edge: ServiceProcess, name: str) -> float:
    return metric(edge.address, f"splitcodec_edge_{name}_bytes_per_second")

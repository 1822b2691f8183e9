"""Rate control inside the edge: which frames it decides, what it counts, what clients and operators see."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from edge_rig import EdgeRig, edge_rig, picture, tiny_codec
from prometheus_client import CollectorRegistry
from waiting import until

from edge.metrics import EdgeMetrics
from edge.pipeline import Codec
from edge.rate_control import RateControl
from edge.settings import CameraGoal, EdgeSettings, load_settings
from splitcodec.errors import FrameLeftOut, SettingsError
from splitcodec.rate_control import RatePoints
from splitcodec.wire.v1 import ingest_pb2

POINTS = RatePoints(3.0, [(0, 1000), (3, 3000)])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Control(RateControl):
    """A control with a clock that the test turns, and its metrics."""

    def __init__(self, **options: object) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry)
        super().__init__(EdgeSettings(**options), {"detect": POINTS}, 3.0, metrics, clock=self.clock)

    def frame(self, camera: str = "door", scale: float = 1.0) -> float:
        """Code one frame as the pipeline does; its bytes follow the table, times `scale`."""
        rate = self.rate(camera, "detect", 1.5)
        self.coded(camera, "detect", rate, round(scale * 1000 * 3 ** (rate / 3)))
        return rate

    def metric(self, name: str, camera: str | None = "door") -> float | None:
        labels = {} if camera is None else {"camera": camera}
        return self.registry.get_sample_value(f"splitcodec_edge_{name}", labels)

    def film(self, frames: int, fps: float = 10.0, camera: str = "door", scale: float = 1.0) -> list[float]:
        rates = []
        for _ in range(frames):
            rates.append(self.frame(camera, scale))
            self.clock.now += 1 / fps
        return rates

    def crowd_link(self, kbps: float) -> None:
        """Ten seconds of a link that always has four frames of 1 kB under way."""
        under_way = [self.sent(1000) for _ in range(4)]
        for _ in range(round(10 * kbps / 8)):
            self.clock.now += 8 / kbps
            self.delivered(under_way.pop(0))
            under_way.append(self.sent(1000))
        for frame in under_way:
            self.clock.now += 8 / kbps
            self.delivered(frame)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@asynccontextmanager
async def rig_with(codec: Codec, folder: Path, **options: object) -> AsyncIterator[EdgeRig]:
    async with edge_rig(codec, folder, **options) as rig:
        yield rig


def test_without_a_target_frames_keep_the_default_rate() -> None:
    control = Control()
    assert control.film(5) == [1.5] * 5
    assert control.metric("target_bytes_per_second") is None
    assert control.metric("measured_bytes_per_second") == pytest.approx(5 * 1732 / 10, rel=0.01)


def test_what_is_kept_of_frames_does_not_grow_while_nobody_scrapes() -> None:
    control = Control()
    control.film(100)
    tracemalloc.start()
    try:
        control.film(1000)
        before, _ = tracemalloc.get_traced_memory()
        control.film(10_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # bytes; it was 130 per frame
    assert control.metric("measured_bytes_per_second") == pytest.approx(1732 * 10, rel=0.01)


def test_a_target_is_held_and_told() -> None:
    control = Control(target_kbps=160)
    rates = control.film(200)
    assert 1.8 < rates[-1] < 2.2  # 2,000 bytes per frame
    assert control.metric("target_bytes_per_second") == 20_000
    assert control.metric("allowed_bytes_per_second") == 20_000
    assert control.metric("measured_bytes_per_second") == pytest.approx(20_000, rel=0.1)
    assert control.metric("rate_short") == 0
    assert control.metric("link_bytes_per_second", None) == 0


def test_each_camera_may_have_a_goal_of_its_own() -> None:
    goals = {"door": {"target_kbps": 100}, "yard": {"target_kbps": None}}
    control = Control(target_kbps=160, camera_goals=goals)
    assert control.film(100)[-1] < 1
    assert control.film(100, camera="yard")[-1] == 1.5
    assert 1.8 < control.film(100, camera="hall")[-1] < 2.2


def test_a_goal_can_be_changed_while_frames_flow() -> None:
    control = Control()
    control.film(10)
    control.set_goal("door", CameraGoal(target_kbps=100))
    assert control.film(100)[-1] < 1
    control.set_goal("door", CameraGoal(target_kbps=None))
    assert control.film(2) == [1.5, 1.5]
    assert control.metric("target_bytes_per_second") == 0


def test_frames_of_other_rates_count_against_the_target() -> None:
    control = Control(target_kbps=160)
    before = control.film(50)[-1]
    control.coded("door", "detect", 3.0, 20_000)  # a client asked for this rate itself
    assert control.frame() < before - 1


def test_thinning_leaves_frames_out_and_says_so() -> None:
    control = Control(target_kbps=40, over_target="thin")
    left_out = 0
    for _ in range(200):
        try:
            control.frame()
        except FrameLeftOut:
            left_out += 1
        control.clock.now += 0.1
    assert 85 <= left_out <= 115  # rate 0 takes 80 kbit/s
    assert control.metric("measured_bytes_per_second") == pytest.approx(5000, rel=0.1)


def test_spooling_keeps_every_frame_at_the_lowest_rate_and_says_so() -> None:
    control = Control(target_kbps=40)
    assert control.film(100)[-50:] == [0.0] * 50
    assert control.metric("rate_short") == 1


def test_a_deep_spool_lowers_the_rate() -> None:
    control = Control(target_kbps=160)
    control.crowd_link(kbps=160)
    before = control.film(50)[-1]
    control._backlog_bytes = lambda: 1_000_000
    assert control.film(50)[-1] < before


def test_cameras_share_a_narrow_link_by_their_targets() -> None:
    goals = {"door": {"target_kbps": 300}, "yard": {"target_kbps": 100}}
    control = Control(camera_goals=goals)
    control.crowd_link(kbps=100)
    for _ in range(3):
        for camera in goals:
            control.frame(camera)
    door, yard = (control.metric("allowed_bytes_per_second", camera) or 0.0 for camera in goals)
    assert door == pytest.approx(3 * yard, rel=0.01)
    assert 10_000 < door + yard < 13_000


@pytest.mark.parametrize("bad", [{"target_kbps": 0}, {"camera_goals": {"door": {"kbps": 1}}}])
def test_a_bad_goal_stops_the_service_at_start(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"target_kbps|camera_goals"):
        EdgeSettings(**bad)


def test_goals_can_be_given_as_flags() -> None:
    flags = ["--target-kbps=200", "--over-target=thin", '--camera-goals={"door": {"target_kbps": 50}}']
    settings = load_settings(flags)
    assert settings.goal_of("door").target_kbps == 50
    assert settings.goal_of("yard").target_kbps == 200
    with pytest.raises(SettingsError, match=r"over_target|over-target"):
        load_settings(["--over-target=drop"])


async def test_the_rate_a_client_asks_for_is_not_touched(codec: Codec, tmp_path: Path) -> None:
    async with rig_with(codec, tmp_path, target_kbps=0.01) as rig:
        answers = [await rig.post(rate=1.25) for _ in range(3)]
    assert [answer.json()["rate"] for answer in answers] == [1.25] * 3


async def test_a_target_lowers_the_rate_of_posted_frames(codec: Codec, tmp_path: Path) -> None:
    async with rig_with(codec, tmp_path, target_kbps=0.5) as rig:
        rates = [(await rig.post(picture(seed=seed))).json()["rate"] for seed in range(5)]
    assert rates[-1] < rates[0]
    assert rates[-1] == 0


async def test_a_frame_left_out_is_429_with_a_remedy_and_uses_no_number(codec: Codec, tmp_path: Path) -> None:
    async with rig_with(codec, tmp_path, target_kbps=0.5, over_target="thin") as rig:
        answers = [await rig.post() for _ in range(6)]
        counted = rig.pipeline.metrics.registry.get_sample_value(
            "splitcodec_edge_frames_total", {"camera": "default", "task": "detect", "outcome": "FrameLeftOut"}
        )
    refused = [answer for answer in answers if answer.status_code == 429]
    taken = [answer.json()["seq"] for answer in answers if answer.status_code == 200]
    assert refused
    assert counted == len(refused)
    assert refused[0].json()["type"].endswith("frame-left-out")
    assert "target_kbps" in refused[0].json()["detail"]
    assert taken == list(range(taken[0], taken[0] + len(taken)))


async def test_a_cloud_that_does_not_answer_leaves_nothing_under_way(codec: Codec, tmp_path: Path) -> None:
    async def never(_: ingest_pb2.Frame, context: grpc.aio.ServicerContext) -> ingest_pb2.InferResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with rig_with(codec, tmp_path, target_kbps=100) as rig:
        rig.cloud.answer = never
        await rig.post()
        await rig.cloud.wait_for(frames=1)
        await until(lambda: rig.pipeline._coder._rates._link.bytes_under_way == 0)

"""A frame that came out far too big is coded once more, at the rate where it fits its budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_rig import edge_rig, picture, tiny_codec
from prometheus_client import CollectorRegistry

from edge.metrics import EdgeMetrics
from edge.rate_control import RateControl
from edge.settings import EdgeSettings
from splitcodec.rate_control import Goal, LinkMeter, RateController, RatePoints

POINTS = RatePoints(3.0, [(0, 1000), (3, 8000)])  # eight times the bytes over the whole range
GOAL = Goal(target_kbps=160, deadline_s=1.0)  # 2,000 bytes per frame at 10 frames per second


def bytes_at(rate: float, scale: float) -> int:
    return round(scale * 1000 * 8 ** (rate / 3))


def settled() -> tuple[RateController, LinkMeter, float]:
    """A controller that has learned a scene, and the time now."""
    controller, link, now = RateController({"detect": POINTS}, 3.0, GOAL), LinkMeter(), 0.0
    for _ in range(100):
        rate = controller.choose("detect", link, 0, now).rate
        controller.coded("detect", rate, bytes_at(rate, 1.0), now)
        now += 0.1
    return controller, link, now


@pytest.mark.parametrize("scale", [1.5, 1.8])
def test_a_frame_of_another_scene_comes_back_to_its_budget(scale: float) -> None:
    controller, link, now = settled()
    rate = controller.choose("detect", link, 0, now).rate
    lower = controller.lower_rate("detect", rate, bytes_at(rate, scale))
    assert lower is not None
    assert 0 < lower < rate
    assert bytes_at(lower, scale) == pytest.approx(2000, rel=0.1)


def test_a_frame_that_is_a_little_too_big_is_sent_as_it_is() -> None:
    controller, link, now = settled()
    rate = controller.choose("detect", link, 0, now).rate
    assert controller.lower_rate("detect", rate, bytes_at(rate, 1.1)) is None


def test_nothing_is_below_rate_0() -> None:
    controller, _, _ = settled()
    assert controller.lower_rate("detect", 0.0, 10**6) is None


def test_without_a_second_coding_a_new_scene_costs_far_more() -> None:
    sent = {}
    for again in (False, True):
        controller, link, now = settled()
        rate = controller.choose("detect", link, 0, now).rate
        lower = controller.lower_rate("detect", rate, bytes_at(rate, 1.8)) if again else None
        sent[again] = bytes_at(rate if lower is None else lower, 1.8)
    assert sent[False] > 1.5 * sent[True]


async def test_the_edge_codes_it_again_unless_the_client_chose_the_rate(tmp_path: Path) -> None:
    codec = tiny_codec(tmp_path / "pack")
    async with edge_rig(codec, tmp_path / "state", target_kbps=1e6, deadline_s=600) as rig:
        rates = rig.pipeline._links.rates
        rates.rate = lambda *_: 2.0  # type: ignore[method-assign]
        rates.lower_rate = lambda *_: 0.5  # type: ignore[method-assign]
        assert (await rig.post(picture())).json()["rate"] == 0.5
        assert (await rig.post(picture(), rate=2)).json()["rate"] == 2.0  # asked for by the client


def test_it_is_counted_and_only_where_there_is_a_target() -> None:
    for options, count in (({"target_kbps": 160.0}, 1.0), ({}, None)):
        registry = CollectorRegistry()
        control = RateControl(EdgeSettings(**options), {"detect": POINTS}, 3.0, EdgeMetrics(registry))
        rate = control.rate("door", "detect", 1.5)
        assert (control.lower_rate("door", "detect", rate, 10**6) is not None) == bool(options)
        name = "splitcodec_edge_recoded_frames_total"
        assert registry.get_sample_value(name, {"camera": "door"}) == count

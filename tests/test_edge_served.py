"""Which cameras count: from a picture that decodes to a day of silence; then nothing is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_rig import EdgeRig, edge_rig, tiny_codec

from edge.codec import Codec
from edge.lane import CameraLane
from edge.served import SILENCE_S, ServedCameras
from splitcodec.errors import InvalidRequest

AWAY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def cameras(rig: EdgeRig) -> list[str]:
    return [row["camera"] for row in (await rig.http.get("/v1/cameras")).json()]


def lanes(rig: EdgeRig) -> set[str]:
    return {camera for _, camera in rig.pipeline.orders._links.outbox.lanes}


async def test_a_camera_counts_once_its_picture_decodes(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path, max_cameras=1) as rig:
        for name in ("a", "b", "c"):
            assert (await rig.post(b"no picture", camera=name)).status_code == 415
            assert (await rig.post(b"\xff\xd8 cut", camera=name)).status_code == 422
        assert await cameras(rig) == []
        assert lanes(rig) == set()
        assert [(await rig.post(camera=name)).status_code for name in ("d", "e", "d")] == [200, 422, 200]
        assert await cameras(rig) == ["d"]


async def test_frames_of_cameras_that_are_not_served_are_counted_without_a_name(
    codec: Codec, tmp_path: Path
) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        await rig.post(b"no picture", camera="stranger")
        frames = rig.pipeline.metrics.frames.labels("", "detect", "UnsupportedFrame")
        assert frames._value.get() == 1


async def test_a_camera_falls_out_after_a_day_of_silence_and_leaves_nothing(
    codec: Codec, tmp_path: Path
) -> None:
    clock = Clock()
    async with edge_rig(codec, tmp_path, clock, max_cameras=1, target_kbps=200) as rig:
        assert (await rig.post(camera="old")).status_code == 200
        clock.now = SILENCE_S - 1
        assert (await rig.post(camera="new")).status_code == 422
        clock.now = SILENCE_S
        assert 'camera="old"' not in (await rig.http.get("/metrics")).text
        assert (await rig.post(camera="new")).status_code == 200
        assert await cameras(rig) == ["new"]
        assert lanes(rig) == {"new"}
        assert set(rig.pipeline.orders._links.rates._cameras) == {"new"}
        text = (await rig.http.get("/metrics")).text
        assert 'camera="old"' not in text
        assert 'camera="new"' in text


async def test_a_full_house_makes_room_without_a_scrape(codec: Codec, tmp_path: Path) -> None:
    clock = Clock()
    async with edge_rig(codec, tmp_path, clock, max_cameras=1) as rig:
        assert (await rig.post(camera="old")).status_code == 200
        clock.now = SILENCE_S
        assert (await rig.post(camera="new")).status_code == 200


async def test_every_picture_starts_the_day_anew(codec: Codec, tmp_path: Path) -> None:
    clock = Clock()
    async with edge_rig(codec, tmp_path, clock) as rig:
        for clock.now in (0.0, SILENCE_S - 1, 2 * SILENCE_S - 2):
            assert (await rig.post(camera="door")).status_code == 200
            assert await cameras(rig) == ["door"]


async def test_a_camera_that_was_told_what_to_use_stays_until_that_is_taken_back(
    codec: Codec, tmp_path: Path
) -> None:
    clock = Clock()
    async with edge_rig(codec, tmp_path, clock) as rig:
        place = "/v1/cameras/door/prompt"
        assert (await rig.http.put(place, json={"task": "detect", "rate": 1})).status_code == 200
        clock.now = 2 * SILENCE_S
        assert await cameras(rig) == ["door"]
        assert (await rig.http.delete(place)).status_code == 200
        assert await cameras(rig) == []
        assert (await rig.http.delete("/v1/cameras/stranger/prompt")).status_code == 404
        assert await cameras(rig) == []


async def test_a_silent_camera_keeps_the_lane_of_its_backlog(codec: Codec, tmp_path: Path) -> None:
    clock = Clock()
    async with edge_rig(codec, tmp_path, clock, cloud_target=AWAY) as rig:
        assert (await rig.post(camera="door", wait="false")).status_code == 202
        clock.now = SILENCE_S
        assert await cameras(rig) == []
        assert lanes(rig) == {"door"}


def test_a_lane_that_is_being_read_from_disk_is_not_idle() -> None:
    lane = CameraLane(("box-1", "door"))
    assert lane.idle
    lane.more = True
    lane.reading = True
    lane.start_read()
    assert not lane.more
    assert not lane.idle


def test_the_last_place_goes_to_the_first_whose_picture_decodes() -> None:
    served = ServedCameras(1)
    served.check("a")
    served.check("b")
    served.admit("b")
    with pytest.raises(InvalidRequest, match=r"'a' would be one more than the 1 served here"):
        served.admit("a")

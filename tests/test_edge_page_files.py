"""What the live page is made of: its files and their policy, and the lists of recent frames and minutes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from edge_rig import edge_rig, picture, tiny_codec

from edge.codec import Codec
from edge.history import STEP_S, STEPS, History
from edge.page_routes import HEADERS, read_page


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


def test_page_files_are_self_contained() -> None:
    files = {name: file.data.decode() for name, file in read_page().items()}
    assert "index.html" in files
    for name, text in files.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name
    index = files["index.html"]
    assert not re.search(r"\sstyle=|\son\w+=|<style", index)
    named = set(re.findall(r'"/page/([\w.]+)"', index))
    named |= {name for text in files.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert named == set(files) - {"index.html"}


async def test_page_is_sent_with_a_strict_policy_and_revalidated(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        for path in ("/", "/page/page.js", "/page/page.css"):
            response = await rig.http.get(path)
            assert response.status_code == 200
            for name, value in HEADERS.items():
                assert response.headers[name] == value
            again = await rig.http.get(path, headers={"If-None-Match": response.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
        policy = HEADERS["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        for path in ("/page/nothing.js", "/page/..%2fapp.py", "/page/"):
            assert (await rig.http.get(path)).status_code == 404


async def test_docs_need_no_script_and_no_other_host(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        response = await rig.http.get("/docs")
        assert response.status_code == 200
        for name, value in HEADERS.items():
            assert response.headers[name] == value
        assert not re.search(r"<script|https?://|\sstyle=|\son\w+=|<style", response.text)
        for place in set(re.findall(r'(?:href|src)="(/[^"]*)"', response.text)):
            assert (await rig.http.get(place)).status_code == 200
        document = (await rig.http.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method in methods:
                assert f"<code>{method.upper()} {path}</code>" in response.text
        names = set(document["components"]["schemas"])
        assert set(re.findall(r'href="#(\w+)"', response.text)) <= names
        assert names <= set(re.findall(r'id="(\w+)"', response.text))
        again = await rig.http.get("/docs", headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await rig.http.get("/redoc")).status_code == 404


async def test_recent_frames_come_newest_first_with_both_sizes(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        posted = picture()
        ids = [(await rig.post(posted, camera=name)).json()["id"] for name in ("door", "yard", "door")]
        rows = (await rig.http.get("/v1/frames")).json()
        assert [row["id"] for row in rows] == ids[::-1]
        assert rows[0]["picture_bytes"] == len(posted)
        assert rows[0]["jpeg_bytes"] is None  # nobody had looked when it was coded
        await rig.post(posted, camera="door")
        looked = (await rig.http.get("/v1/frames", params={"limit": 1})).json()[0]
        assert 0 < looked["jpeg_bytes"] < len(posted)
        assert rows[0]["num_bytes"] == len(rig.cloud.frames[2].bitstream)
        assert rows[0]["found"] == [{"label": "cat", "share": 0.75}]
        assert (rows[0]["objects"], rows[0]["has_picture"]) == (1, True)
        door = (await rig.http.get("/v1/frames", params={"camera": "door", "limit": 1})).json()
        assert [row["id"] for row in door] == [looked["id"]]
        for limit in (0, 101):
            assert (await rig.http.get("/v1/frames", params={"limit": limit})).status_code == 422


async def test_history_adds_up_to_what_was_sent(codec: Codec, tmp_path: Path) -> None:
    async with edge_rig(codec, tmp_path) as rig:
        for camera in ("door", "yard", "door"):
            await rig.post(picture(), camera=camera)
        steps = (await rig.http.get("/v1/history")).json()["steps"]
        assert len(steps) == STEPS
        assert sum(step["frames"] for step in steps) == sum(step["answers"] for step in steps) == 3
        assert sum(step["num_bytes"] for step in steps) == sum(len(f.bitstream) for f in rig.cloud.frames)
        assert sum(step["picture_bytes"] for step in steps) == 3 * len(picture())
        yard = (await rig.http.get("/v1/history", params={"camera": "yard"})).json()["steps"]
        assert sum(step["frames"] for step in yard) == 1


def test_history_is_bounded_and_keeps_its_steps_apart() -> None:
    now = 1000.0
    history = History(clock=lambda: now)
    history.coded("door", 100, 1000)
    now += STEP_S
    history.answered("door", 0.2)
    history.answered("door", 0.4)
    report = history.report(None)
    assert [(step.frames, step.num_bytes, step.answers) for step in report.steps[-2:]] == [
        (1, 100, 0),
        (0, 0, 2),
    ]
    assert report.steps[-1].mean_s == pytest.approx(0.3)
    assert report.steps[-1].longest_s == 0.4
    assert report.steps[-2].mean_s is None
    now -= 10 * STEP_S  # the clock is set back: nothing is lost, nothing grows
    history.coded("door", 100, 1000)
    now += 1000 * STEP_S
    assert sum(step.frames for step in history.report("door").steps) == 0
    for _ in range(3 * STEPS):
        now += STEP_S
        history.coded("door", 1, 1)
    assert len(history._steps) == STEPS

"""`splitcodec quarantine` against a real edge on a real port, and its way to a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_rig import EdgeRig, edge_rig, tiny_codec
from http_rig import Said, Script, serving
from test_edge_quarantine import answered, quarantined
from typer.testing import CliRunner, Result

from edge.app import create_app
from edge.codec import Codec
from splitcodec.cli import app
from splitcodec.errors import InvalidRequest, SettingsError

EMPTY = Said(200, b'{"total": 0, "frames": []}')


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return tiny_codec(tmp_path_factory.mktemp("pack"))


@pytest.fixture
async def edge(codec: Codec, tmp_path: Path) -> AsyncIterator[tuple[EdgeRig, str]]:
    async with edge_rig(codec, tmp_path) as rig, serving(create_app(rig.pipeline)) as url:
        yield rig, url


async def run(*words: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["quarantine", *map(str, words)])


async def test_frames_are_printed_as_a_table_and_sent_again(edge: tuple[EdgeRig, str]) -> None:
    rig, url = edge
    assert (await run("list", "--edge", url)).output == "0 of 0 frames that were set aside\n"
    names = await quarantined(rig, "door", "gate", "yard-2")
    size = len(rig.cloud.frames[-1].bitstream)
    head, first, *_, last = (await run("list", "--edge", url)).output.splitlines()
    assert head.split() == ["id", "task", "bytes", "replayable", "reason"]
    assert first.split() == [names[2], "detect", str(size), "yes", "SigmaIndexMismatch:", "differs"]
    assert first.index("detect") == head.index("task")
    assert last == "3 of 3 frames that were set aside"
    assert (await run("list", "--edge", url, "--limit", 1)).output.endswith(
        "1 of 3 frames that were set aside\n"
    )
    said = "{}\nreplayed: 1, left to replay: 0\n"
    for words, name in ((["--camera", "gate"], names[1]), (["--frame", names[2]], names[2]), ([], names[0])):
        done = await run("replay", "--edge", url, *words)
        assert (done.exit_code, done.output) == (0, said.format(name))
    await answered(rig, *names)


async def test_a_frame_that_is_not_there_ends_with_1(edge: tuple[EdgeRig, str]) -> None:
    _, url = edge
    missing = await run("replay", "--edge", url, "--frame", "door-1")
    assert (missing.exit_code, "door-1 is not set aside" in missing.output) == (1, True)
    for words in (["--frame", "door"], ["--frame", "door-1", "--camera", "door"]):
        refused = await run("replay", "--edge", url, *words)
        assert (refused.exit_code, type(refused.exception)) == (1, InvalidRequest)
    assert (await run("list")).exit_code == 2


async def test_the_token_of_a_file_goes_along(tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.write_text("abc\n")
    script = Script([EMPTY, Said(401, b"{}")])
    async with serving(script) as url:
        words = ["list", "--edge", url, "--token-file", place]
        assert (await run(*words)).exit_code == 0
        assert (await run(*words)).exit_code == 1
    assert [headers["authorization"] for *_, headers, _ in script.asked] == ["Bearer abc"] * 2


@pytest.mark.parametrize("held", [None, b"", b"secret word", b"\xffsecret", b"secret" * 1000])
async def test_a_file_without_a_token_is_refused_and_not_repeated(tmp_path: Path, held: bytes | None) -> None:
    place = tmp_path / "token"
    if held is not None:
        place.write_bytes(held)
    refused = await run("list", "--edge", "http://127.0.0.1:1", "--token-file", place)
    assert (refused.exit_code, type(refused.exception)) == (1, SettingsError)
    assert "secret" not in str(refused.exception)


async def test_words_of_the_cloud_do_not_move_the_cursor() -> None:
    letter = {
        "id": "door-1", "device": "box-1", "camera": "door", "seq": 1, "task": "", "num_bytes": 0,
        "reason": "odd \x1b[2J\nwords", "replayable": False,
    }  # fmt: skip
    script = Script([Said(200, json.dumps({"total": 1, "frames": [letter]}).encode())])
    async with serving(script) as url:
        _, line, _ = (await run("list", "--edge", url)).output.splitlines()
    assert line.split() == ["door-1", "?", "0", "no", "odd", "[2J", "words"]

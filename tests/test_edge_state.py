"""Device name and sequence numbers: kept over restarts, never repeated, never a reason to stop."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge import identity
from edge.metrics import EdgeMetrics
from edge.spool import Spool
from edge.spool_log import SpoolLog
from edge.spool_policy import SpoolLimits
from edge.state import BLOCK, EdgeState
from splitcodec.errors import SettingsError

NOON = 1_800_000_000.0  # unix seconds


@asynccontextmanager
async def opened(folder: Path, clock: float = NOON, device: str | None = None) -> AsyncIterator[EdgeState]:
    """The state of a running edge."""
    state = EdgeState(folder, device, clock=lambda: clock)
    metrics = EdgeMetrics(CollectorRegistry())
    spool = SpoolLog(Spool(folder, SpoolLimits(2**30, 1e9), metrics), metrics)
    try:
        await state.open(spool)
        yield state
        await state.settle()
    finally:
        await spool.stop()
        state.close()


async def run_once(folder: Path, frames: int, clock: float = NOON, camera: str = "gate") -> list[int]:
    """The numbers one run of an edge gives to one camera."""
    async with opened(folder, clock) as state:
        return [state.next_seq(camera) for _ in range(frames)]


async def name_of(folder: Path) -> str:
    async with opened(folder) as state:
        return state.device


async def test_numbers_rise_by_one_within_a_run(tmp_path: Path) -> None:
    numbers = await run_once(tmp_path, 2 * BLOCK + 10)
    assert numbers == list(range(numbers[0], numbers[0] + 2 * BLOCK + 10))


@pytest.mark.parametrize("drift", [-1e9, -3600.0, 0.0, 5.0])
async def test_numbers_rise_over_a_restart_whatever_the_clock_does(tmp_path: Path, drift: float) -> None:
    before = await run_once(tmp_path, BLOCK + 3)
    after = await run_once(tmp_path, 3, NOON + drift)
    assert min(after) > max(before)


async def test_another_camera_never_begins_below_one_of_an_earlier_run(tmp_path: Path) -> None:
    before = await run_once(tmp_path, 3)
    assert min(await run_once(tmp_path, 3, 5.0, "yard")) > max(before)


@pytest.mark.parametrize("frames", [1, BLOCK // 2, BLOCK])
def test_numbers_rise_over_a_kill(tmp_path: Path, frames: int) -> None:
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from test_edge_state import opened\n"
        "async def run():\n"
        "    async with opened(pathlib.Path(sys.argv[1]), 5.0) as state:\n"
        "        print(max(state.next_seq('gate') for _ in range(int(sys.argv[2]))), flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(run())\n"
    )
    here = Path(__file__).resolve().parent
    environment = {"PYTHONPATH": f"{here.parent}:{here}"}
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(frames)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    assert asyncio.run(run_once(tmp_path, 1, 5.0))[0] > int(killed.stdout)


async def test_cameras_count_on_their_own(tmp_path: Path) -> None:
    async with opened(tmp_path, 1.0) as state:
        assert [state.next_seq(camera) for camera in "abaab"] == [1000, 1000, 1001, 1002, 1001]


async def test_the_ceiling_is_raised_before_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[int] = []
    keep = identity.write_ceiling
    monkeypatch.setattr(
        "edge.identity.write_ceiling", lambda folder, ceiling: (raised.append(ceiling), keep(folder, ceiling))
    )
    async with opened(tmp_path, 0.0) as state:
        for _ in range(BLOCK // 2):
            state.next_seq("gate")
        assert raised == [BLOCK]
        seq = state.next_seq("gate")
        await asyncio.sleep(0)  # the loop takes up the request
        await state.settle()
        assert raised == [BLOCK, seq + BLOCK]
        for _ in range(BLOCK // 2 - 1):
            state.next_seq("yard")
        assert len(raised) == 2
    assert raised == [BLOCK, seq + BLOCK]


async def test_the_device_name_is_made_once_and_kept(tmp_path: Path) -> None:
    names = [await name_of(tmp_path / "one") for _ in range(2)]
    assert names[0] == names[1] != await name_of(tmp_path / "two")
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", names[0])


async def test_a_given_device_name_wins(tmp_path: Path) -> None:
    async with opened(tmp_path, device="box-7") as state:
        assert state.device == "box-7"
    assert await name_of(tmp_path) == "box-7"


def test_a_second_edge_is_kept_out(tmp_path: Path) -> None:
    first = EdgeState(tmp_path)
    with pytest.raises(SettingsError, match="another edge uses"):
        EdgeState(tmp_path)
    first.close()
    EdgeState(tmp_path).close()


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_full_disk_costs_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await name_of(tmp_path)
    monkeypatch.setattr("edge.identity.write_ceiling", full)
    monkeypatch.setattr("edge.identity.keep", full)
    with caplog.at_level(logging.ERROR):
        first = (await run_once(tmp_path, 3))[0]
    assert "No space left" in caplog.text
    assert (await run_once(tmp_path, 3, NOON + 60))[0] > first


async def test_a_name_that_cannot_be_kept_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.identity.write_name", full)
    with pytest.raises(SettingsError, match="SPLITCODEC_EDGE_STATE_DIR"):
        await name_of(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="SPLITCODEC_EDGE_STATE_DIR"):
        EdgeState(tmp_path / "file" / "state")

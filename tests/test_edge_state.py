"""Device name and sequence numbers: kept over restarts, never repeated, never a reason to stop."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.state import BLOCK, EdgeState
from splitcodec.errors import SettingsError

NOON = 1_800_000_000.0  # unix seconds


def run_once(folder: Path, frames: int, clock: float, camera: str = "gate") -> list[int]:
    """The numbers one run of an edge gives to one camera."""
    state = EdgeState(folder, clock=lambda: clock)
    try:
        return [state.next_seq(camera) for _ in range(frames)]
    finally:
        state.close()


def test_numbers_rise_by_one_within_a_run(tmp_path: Path) -> None:
    numbers = run_once(tmp_path, 2 * BLOCK + 10, NOON)
    assert numbers == list(range(numbers[0], numbers[0] + 2 * BLOCK + 10))


@pytest.mark.parametrize("drift", [-1e9, -3600.0, 0.0, 5.0])
def test_numbers_rise_over_a_restart_whatever_the_clock_does(tmp_path: Path, drift: float) -> None:
    before = run_once(tmp_path, BLOCK + 3, NOON)
    after = run_once(tmp_path, 3, NOON + drift)
    assert min(after) > max(before)


def test_numbers_rise_over_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from edge.state import EdgeState\n"
        "state = EdgeState(pathlib.Path(sys.argv[1]), clock=lambda: 5.0)\n"
        "print(max(state.next_seq('gate') for _ in range(1500)), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).resolve().parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, cwd=root
    )
    assert killed.returncode == -9, killed.stderr
    assert run_once(tmp_path, 1, 5.0)[0] > int(killed.stdout)


def test_a_lost_file_does_not_repeat_numbers_as_long_as_time_passes(tmp_path: Path) -> None:
    before = run_once(tmp_path, 3, NOON)
    (tmp_path / "state.json").unlink()
    assert min(run_once(tmp_path, 3, NOON + 1)) > max(before)


def test_cameras_count_on_their_own(tmp_path: Path) -> None:
    state = EdgeState(tmp_path, clock=lambda: 1.0)
    assert [state.next_seq(camera) for camera in "abaab"] == [1000, 1000, 1001, 1002, 1001]
    state.close()


def test_the_disk_is_touched_once_per_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = EdgeState(tmp_path)
    writes: list[None] = []
    monkeypatch.setattr(EdgeState, "_write", lambda self: writes.append(None))
    for _ in range(3 * BLOCK):
        state.next_seq("gate")
    assert len(writes) == 3
    state.close()


def test_the_device_name_is_made_once_and_kept(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        state = EdgeState(tmp_path / "one")
        names.append(state.device)
        state.close()
    other = EdgeState(tmp_path / "two")
    other.close()
    assert names[0] == names[1] != other.device
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", names[0])


def test_a_given_device_name_wins(tmp_path: Path) -> None:
    state = EdgeState(tmp_path, device="box-7")
    state.close()
    assert state.device == "box-7"


def test_a_second_edge_is_kept_out(tmp_path: Path) -> None:
    first = EdgeState(tmp_path)
    with pytest.raises(SettingsError, match="another edge uses"):
        EdgeState(tmp_path)
    first.close()
    EdgeState(tmp_path).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b"{}",
        json.dumps({"format": 1, "device": "a b", "reserved": {}}).encode(),
        json.dumps({"format": 1, "device": "a", "reserved": {"gate": -1}}).encode(),
        json.dumps({"format": 1, "device": "a", "reserved": {"gate": 2**63}}).encode(),
        json.dumps({"format": 9, "device": "a", "reserved": {}}).encode(),
    ],
)
def test_a_damaged_file_is_moved_aside_and_reported(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert run_once(tmp_path, 1, NOON) == [int(NOON * 1000)]
    assert (tmp_path / "state.damaged").read_bytes() == content
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\x00" * 80, None])
def test_a_damaged_or_lost_file_does_not_rename_the_device(tmp_path: Path, content: bytes | None) -> None:
    state = EdgeState(tmp_path)
    state.close()
    (tmp_path / "state.json").unlink()
    if content is not None:
        (tmp_path / "state.json").write_bytes(content)
    again = EdgeState(tmp_path)
    again.close()
    assert again.device == state.device


@pytest.mark.parametrize("content", [b"", b"a b", b"\xff"])
def test_a_damaged_name_file_is_made_anew_from_the_state(tmp_path: Path, content: bytes) -> None:
    state = EdgeState(tmp_path)
    state.close()
    (tmp_path / "device").write_bytes(content)
    EdgeState(tmp_path).close()
    assert (tmp_path / "device").read_text() == state.device


def test_a_full_disk_costs_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = EdgeState(tmp_path, clock=lambda: 1.0)

    def full(_: EdgeState) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EdgeState, "_write", full)
    with caplog.at_level(logging.ERROR):
        assert [state.next_seq("gate") for _ in range(3)] == [1000, 1001, 1002]
    assert "No space left" in caplog.text
    state.close()


def test_a_folder_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="SPLITCODEC_EDGE_STATE_DIR"):
        EdgeState(tmp_path / "file" / "state")

"""The swap bench: its judge finds each kind of fault, and a short run through both services has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_pack
from typer.testing import CliRunner

from splitcodec.bench.command import app
from splitcodec.bench.swap_check import drift, faults, percentiles, possible_prompts
from splitcodec.bench.swap_command import made_up
from splitcodec.bench.swap_run import FrameAnswer, Swap, SwapRun
from splitcodec.bench.swap_versions import versions

ALONE = {(0, "detect"): "d0", (0, "segment"): "s0"}


def answer(seq: int, prompt: str, started: float, fingerprint: str | None = None) -> FrameAnswer:
    return FrameAnswer(
        "door", 0, prompt, seq, ALONE[0, prompt] if fingerprint is None else fingerprint, started, started + 1
    )


def a_run(*answers: FrameAnswer) -> SwapRun:
    """The camera uses detect, and from 10 (asked for) or 11 (answered) on segment."""
    swaps = [Swap("door", "detect", 0.0, 0.1), Swap("door", "segment", 10.0, 11.0)]
    return SwapRun({"door": list(answers)}, {"door": swaps})


SOUND = (
    answer(1, "detect", 1.0),
    answer(2, "detect", 9.5),
    answer(3, "segment", 10.5),
    answer(4, "segment", 12.0),
)


def test_a_sound_run_has_no_faults() -> None:
    assert faults(a_run(*SOUND), ALONE, {"door": [1, 2, 3, 4]}).none


@pytest.mark.parametrize(
    ("changed", "stored", "fault"),
    [
        (replace(SOUND[0], fingerprint="s0"), [1, 2, 3, 4], "differing"),
        (replace(SOUND[0], prompt="segment", fingerprint="s0"), [1, 2, 3, 4], "wrong_prompt"),
        (replace(SOUND[0], started=2.0), [2, 3, 4], "lost"),
        (replace(SOUND[0], started=2.0), [1, 1, 2, 3, 4], "doubled"),
        (replace(SOUND[0], seq=5), [5, 2, 3, 4], "out_of_order"),
    ],
)
def test_each_kind_of_fault_is_found(changed: FrameAnswer, stored: list[int], fault: str) -> None:
    found = faults(a_run(changed, *SOUND[1:]), ALONE, {"door": stored})
    assert not found.none
    assert getattr(found, fault) == 1


def test_a_frame_under_way_during_a_swap_may_use_either_task() -> None:
    swaps = a_run().swaps["door"]
    assert possible_prompts(answer(1, "detect", 5.0), swaps) == {"detect"}
    assert possible_prompts(answer(1, "detect", 9.5), swaps) == {"detect", "segment"}
    assert possible_prompts(answer(1, "detect", 10.5), swaps) == {"detect", "segment"}
    assert possible_prompts(answer(1, "detect", 11.0), swaps) == {"segment"}


def test_percentiles_and_drift_by_hand() -> None:
    found = percentiles([0.001 * number for number in range(1, 102)])
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (51.0, 100.0, 101.0)
    assert drift([1.0, 2.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert drift([1.0]) == 0


def test_made_up_pictures_are_the_same_every_time() -> None:
    assert [one.data for one in made_up(2)] == [one.data for one in made_up(2)]
    assert made_up(2)[0].data != made_up(2)[1].data


def test_an_altered_prompt_is_another_sound_version(tmp_path: Path) -> None:
    pack = tiny_pack.write_three_tasks(tmp_path / "tiny")
    (found,) = versions(pack, [], tmp_path)
    assert found.used.task == "classify"
    assert found.used.prompt != pack.prompt("classify").wire_digest.hex()
    assert found.used.wish() == {"prompt_digest": found.used.prompt}
    again = versions(pack, [found.place, found.place], tmp_path)
    assert [one.used for one in again] == [found.used] * 2


@pytest.mark.slow
def test_swaps_under_frames_of_four_cameras_mix_and_lose_nothing(tmp_path: Path) -> None:
    tiny_pack.write_three_tasks(tmp_path / "tiny")
    report = tmp_path / "report.json"
    command = ["swap", "--pack", str(tmp_path / "tiny"), "--count", "200", "--photos", "3"]
    result = CliRunner().invoke(app, [*command, "--json", str(report)])
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert set(found["faults"].values()) == {0}
    assert (found["swaps"], found["cameras"]) == (200, 4)
    assert found["frames_answered"] >= 200
    assert [one["task"] for one in found["prompts"]] == ["classify", "detect", "segment", "classify"]
    line = next(line for line in result.output.splitlines() if line.startswith("swaps="))
    assert line.startswith(f"swaps=200 frames={found['frames_answered']} wrong=0 dropped=0 stall_p50_ms=")
    assert [part.split("=")[0] for part in line.split()[-2:]] == ["stall_p99_ms", "rss_slope_kb_per_1000"]
    assert found["swap"]["p50_ms"] <= found["swap"]["p99_ms"]
    assert [one["swaps"] for one in found["samples"]] == [40, 80, 120, 160, 200]
    assert all(one["cpu_ms_per_frame"] > 0 for one in found["samples"][-3:])
    assert "differing 0, wrong prompt 0, lost 0, doubled 0, out of order 0" in result.output

"""A fast part of `make chaos`, and proof that its judge can say no."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chaos.ledger import FrameName, judge
from chaos.pack import write_chaos_pack
from chaos.run import main, names, run_scenario
from chaos.special import Unavailable
from chaos.world import Plan

FAST = (
    "both_killed",
    "posts_repeated",
    "services_restarted",
    "link_cut",
    "link_cut_often",
    "link_loses",
    "rows_rot",
    "stores_rot",
    "still_cameras",
)
ROOT = Path(__file__).resolve().parent.parent
TWO: list[FrameName] = [("a", 1), ("a", 2)]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos") / "pack"
    write_chaos_pack(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_nothing_is_lost_doubled_or_disordered(name: str, pack: Path, tmp_path: Path) -> None:
    try:
        verdict = run_scenario(name, tmp_path, pack, Plan(seed=3, frames=20, kills=1))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert verdict.accepted >= 20
    assert verdict.seen > 0
    assert verdict.sound, verdict.row()


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        ([("a", 1)], "lost"),
        ([("a", 1), ("a", 2), ("a", 2)], "duplicated"),
        ([("a", 2), ("a", 1)], "reordered"),
        ([("a", 1), ("a", 2), ("b", 9)], "unexplained"),
    ],
)
def test_the_judge_sees_every_fault(seen: list[FrameName], fault: str) -> None:
    verdict = judge(TWO, seen)
    assert not verdict.sound
    assert getattr(verdict, fault) == 1
    assert f" {fault}=1" in verdict.row()


def test_the_judge_accepts_what_was_reported_and_what_broke_off() -> None:
    assert judge(TWO, TWO).sound
    assert judge(TWO, TWO[:1], given_up=1).sound
    assert judge(TWO, [*TWO, ("b", 9)], without_yes=1).sound
    other_cameras_between = [("a", 1), ("b", 5), ("a", 2), ("b", 6)]
    assert judge(other_cameras_between, other_cameras_between).sound


def test_every_scenario_is_documented() -> None:
    table = (ROOT / "docs" / "delivery.md").read_text().partition("| scenario | fault |")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(names())


def test_the_published_counts_are_those_of_the_run() -> None:
    report = (ROOT / "docs" / "results" / "chaos.txt").read_text().splitlines()
    said = " ".join((ROOT / "docs" / "delivery.md").read_text().split())
    runs, accepted, given_up = re.findall(r"(\d+) runs|accepted=(\d+)|given_up=(\d+)", report[-1])
    assert f"{runs[0]} scenarios: accepted {accepted[1]}, lost 0, duplicated 0, out of order 0" in said
    assert f"besides, {given_up[2]} frames" in said
    assert " lost=0 duplicated=0 reordered=0 unexplained=0 " in report[-1]
    assert sorted(line.split()[0] for line in report[1:-1]) == sorted(names())


def test_unknown_scenarios_are_refused() -> None:
    assert len(names()) >= 17
    with pytest.raises(SystemExit):
        main(["no_such_scenario"])

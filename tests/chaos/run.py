"""Runs scenarios one by one and counts: `make chaos`, or `python -m chaos --seed 7 edge_killed` in tests/."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from chaos.ledger import Verdict
from chaos.pack import write_chaos_pack
from chaos.scenarios import PLAIN
from chaos.special import SPECIAL, Unavailable
from chaos.world import Plan, world

Runner = Callable[[Path, Path, Plan], Verdict]


@dataclass(frozen=True)
class Outcome:
    """One scenario: its verdict, or why it could not run here, or why it did not come to an end."""

    name: str
    verdict: Verdict | None
    skipped: str
    failed: str
    seconds: float


def run_scenario(name: str, folder: Path, pack: Path, plan: Plan) -> Verdict:
    """Unavailable: this machine cannot do it; TimeoutError: the services did not come through."""
    if name in SPECIAL:
        return SPECIAL[name](folder, pack, plan)
    with world(folder, pack, plan) as made:
        PLAIN[name](made)
        return made.settle()


def names() -> list[str]:
    """Every scenario."""
    return [*PLAIN, *SPECIAL]


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 if anything was lost, doubled or disordered."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="all by default")
    parser.add_argument("--seed", type=int, default=1, help="the same seed strikes at the same points")
    parser.add_argument("--rounds", type=int, default=1, help="each with the next seed")
    parser.add_argument("--frames", type=int, default=400, help="frames in each phase")
    parser.add_argument("--kills", type=int, default=5, help="kills, cuts or stalls of each run")
    parser.add_argument("--keep", type=Path, default=None, help="folder for logs and state, kept")
    parser.add_argument("--cuts", type=int, default=2000, help="cuts of the scenario that does little else")
    options = parser.parse_args(arguments)
    chosen = options.scenarios or names()
    if unknown := sorted(set(chosen) - set(names())):
        parser.error(f"unknown {unknown}; choose from {names()}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    outcomes = []
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(_temporary()))
        write_chaos_pack(folder / "pack")
        for round_number in range(options.rounds):
            plan = Plan(options.seed + round_number, options.frames, options.kills, cuts=options.cuts)
            for name in chosen:
                place = folder / f"{name}-{plan.seed}"
                place.mkdir(parents=True, exist_ok=True)
                outcomes.append(_timed(name, place, folder / "pack", plan))
                print(line(outcomes[-1], plan.seed), flush=True)
    print(summary(outcomes))
    return int(any(outcome.failed or (outcome.verdict and not outcome.verdict.sound) for outcome in outcomes))


def line(outcome: Outcome, seed: int) -> str:
    """One line of the report."""
    said = outcome.skipped + outcome.failed if outcome.verdict is None else outcome.verdict.row()
    return f"{outcome.name:<20} seed {seed:<3} {outcome.seconds:6.1f} s  {said}"


def summary(outcomes: list[Outcome]) -> str:
    """The counts of all runs together."""
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict is not None]
    lost = sum(max(0, verdict.lost - verdict.given_up) for verdict in verdicts)
    return (
        f"chaos: {len(verdicts)} runs, {sum(bool(outcome.skipped) for outcome in outcomes)} skipped, "
        f"{sum(bool(outcome.failed) for outcome in outcomes)} failed; "
        f"accepted={sum(v.accepted for v in verdicts)} seen={sum(v.seen for v in verdicts)} lost={lost} "
        f"duplicated={sum(v.duplicated for v in verdicts)} reordered={sum(v.reordered for v in verdicts)} "
        f"unexplained={sum(v.unexplained for v in verdicts)} given_up={sum(v.given_up for v in verdicts)}"
    )


def _timed(name: str, place: Path, pack: Path, plan: Plan) -> Outcome:
    started = time.monotonic()
    verdict, skipped, failed = None, "", ""
    try:
        verdict = run_scenario(name, place, pack, plan)
    except Unavailable as reason:
        skipped = f"skipped: {reason}"
    except (TimeoutError, RuntimeError) as reason:
        failed = f"FAILED: {reason}"
    return Outcome(name, verdict, skipped, failed, time.monotonic() - started)


def _temporary() -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="splitcodec-chaos-")


if __name__ == "__main__":
    sys.exit(main())

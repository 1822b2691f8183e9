"""`make fuzz`: millions of inputs through every target, guided by coverage, bounded in time and memory.

Each target runs in a process of its own (fuzz/instrumented.py). A finding stops its target and leaves the
input in the crashes folder. Exit status 1 if there was one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from fuzz.targets import TARGETS, Target

_DONE: Final = re.compile(r"Done (\d+) runs? in")
_AT: Final = re.compile(r"^#(\d+)\s", re.MULTILINE)


def main() -> int:
    """Run the targets one after the other; print one line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="of all targets together")
    parser.add_argument(
        "--work", type=Path, default=Path("fuzz-out"), help="corpora, crashes and report.json"
    )
    parser.add_argument("--only", choices=[target.name for target in TARGETS], action="append")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.only is None or target.name in options.only]
    total = sum(target.share for target in chosen)
    rows = []
    for target in chosen:
        row = _run(target, max(1, round(options.inputs * target.share / total)), options.work, options.seed)
        print(json.dumps(row), flush=True)
        rows.append(row)
        (options.work / "report.json").write_text(json.dumps(rows, indent=1) + "\n")
    inputs, findings = (sum(int(str(row[key])) for row in rows) for key in ("inputs", "findings"))
    print(f"{inputs} inputs, {findings} findings")
    return int(findings > 0)


def _run(target: Target, inputs: int, work: Path, seed: int) -> dict[str, object]:
    """One target in its own process; what it did, as counted by libFuzzer and the kernel."""
    work.mkdir(parents=True, exist_ok=True)
    log_path = work / f"{target.name}.log"
    started = time.monotonic()
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", "fuzz.instrumented", target.name, str(inputs), str(work), str(seed)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # wait() would not tell what this one child used
        process.returncode = os.waitstatus_to_exitcode(status)
    text = log_path.read_text(errors="replace")
    done = _DONE.search(text)
    return {
        "target": target.name,
        "inputs": int(done[1]) if done else max(map(int, _AT.findall(text)), default=0),
        "seconds": round(time.monotonic() - started, 1),
        "peak_mib": usage.ru_maxrss // 1024,
        "findings": int(process.returncode != 0 or done is None),
    }


if __name__ == "__main__":
    sys.exit(main())

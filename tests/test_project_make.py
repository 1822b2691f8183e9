"""`make` and `.ci/run` on a fresh machine: which Python is taken, what is installed, what CI runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def _make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        [str(MAKE), *words], cwd=ROOT, env=env | environment, capture_output=True, text=True, check=False
    )


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _tools(folder: Path) -> None:
    for name in ("rm", "mkdir", "touch"):
        (folder / name).symlink_to(str(shutil.which(name)))


def test_python_that_is_only_a_failing_shim_is_passed_over(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    _tools(tools)
    _script(tools / "python3.12", "exit 127")
    _script(
        tools / "python3.11", 'case "$*" in *"-m venv"*) mkdir -p "$3/bin" && touch "$3/bin/python";; esac'
    )
    venv = tmp_path / "venv"
    done = _make(f"VENV={venv}", f"{venv}/bin/python", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert f"creating {venv} with python3.11" in done.stdout
    assert (venv / "bin" / "python").exists()


def test_no_working_python_says_what_to_install(tmp_path: Path) -> None:
    _tools(tmp_path)
    done = _make(f"VENV={tmp_path}/venv", f"{tmp_path}/venv/bin/python", PATH=str(tmp_path))
    assert done.returncode != 0
    assert "no working Python 3.10, 3.11 or 3.12" in done.stderr


def test_demo_installs_the_runtime_and_test_installs_the_tools(tmp_path: Path) -> None:
    demo = _make("-n", "demo", f"VENV={tmp_path}/venv").stdout
    assert '".[edge,cloud,cpu,demo]"' in demo
    assert f"{tmp_path}/venv/bin/splitcodec demo" in demo
    test = _make("-n", "test", f"VENV={tmp_path}/venv").stdout
    assert '".[edge,cloud,cpu,demo,frigate,train,eval,tracing,dev]"' in test
    for tool in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "python -m pytest"):
        assert f"{tmp_path}/venv/bin/{tool}" in test


def test_ci_runs_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    lines = [
        line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert lines == ["export PEERS=install", "make test"]
    assert os.access(script, os.X_OK)

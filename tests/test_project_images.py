"""Each Dockerfile's installation replayed in a clean environment, and the image's own command run from it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dockerfile_parse")

from image_files import Stage, stages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent
HOME = "/opt/splitcodec"
STATE = "/var/lib/splitcodec"
PATIENCE_S = 120.0
PORTS = {"edge": ("PORT",), "cloud": ("PORT", "METRICS_PORT")}


def replay(stage: Stage, tree: Path, home: Path) -> None:
    """Follow the stage step by step: copy into `tree`, run its commands there, install into `home`."""
    for instruction, value in stage.steps:
        if instruction == "COPY":
            copy_into(tree, value)
        elif instruction == "RUN":
            words = shlex.split(value.replace(HOME, str(home)))
            words[0] = sys.executable if words[0] == "python3" else words[0]
            done = subprocess.run(words, cwd=tree, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def copy_into(tree: Path, value: str) -> None:
    """One COPY of the sources."""
    *sources, target = shlex.split(value)
    for source in sources:
        place = tree / (target if target != "./" else source)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def run_environment(service: str, stage: Stage, home: Path, state: Path) -> dict[str, str]:
    """The image's variables with folders and ports of this machine, insecure as in the compose file."""
    moved = {
        name: value.replace(HOME, str(home)).replace(STATE, str(state)).replace("$PATH", os.environ["PATH"])
        for name, value in stage.environment().items()
    }
    prefix = f"SPLITCODEC_{service.upper()}_"
    ports = {prefix + name: str(free_port()) for name in PORTS[service]}
    return {**moved, **ports, prefix + "INSECURE": "true", "HOME": str(state)}


def installed(home: Path) -> set[str]:
    done = subprocess.run(
        [home / "bin" / "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    return {one["name"].lower() for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def index() -> None:
    asked = [sys.executable, "-m", "pip", "--timeout=10", "--retries=0", "index", "versions", "pip"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no package index can be reached, and the image installs from one")


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("service", ["edge", "cloud"])
def test_the_image_installs_starts_is_healthy_and_stops(service: str, tmp_path: Path) -> None:
    home, tree, state = tmp_path / "home", tmp_path / "src", tmp_path / "state"
    tree.mkdir()
    state.mkdir()
    install = next(one for one in stages(service) if one.name == "install")
    replay(install, tree, home)
    assert {"torch", "onnxruntime-gpu", "pytest"}.isdisjoint(installed(home))

    stage = stages(service)[-1]
    environment = run_environment(service, stage, home, state)
    entrypoint = [str(home / "bin" / stage.command("ENTRYPOINT")[0])]
    probe = [str(home / "bin" / stage.command("HEALTHCHECK")[0]), *stage.command("HEALTHCHECK")[1:]]
    assert subprocess.run(probe, env=environment, cwd=state, capture_output=True, check=False).returncode == 1
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            entrypoint, env=environment, cwd=state, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "listening", (
                tmp_path / "log"
            ).read_text()
            waiting = [*probe, f"--wait-s={PATIENCE_S:g}"]
            done = subprocess.run(
                waiting, env=environment, cwd=state, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()

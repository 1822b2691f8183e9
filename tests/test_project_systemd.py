"""systemd units: systemd's own check, the flags against the settings, and how far a unit is locked in."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge
from splitcodec.readiness import split_wait

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "systemd"
HOME = "/opt/splitcodec/bin"
LOADERS = {"edge": load_edge, "cloud": load_cloud}
MOST_EXPOSED = 2.5  # of 10, by `systemd-analyze security`
PATIENCE_S = 60.0
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt install systemd"
)


def unit(service: str) -> Path:
    return FOLDER / f"splitcodec-{service}.service"


def entries(service: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit(service))
    return {name: dict(parser[name]) for name in parser.sections()}


def words(service: str, key: str) -> list[str]:
    return shlex.split(entries(service)["Service"][key])


def settings(service: str) -> EdgeSettings | CloudSettings:
    return LOADERS[service](words(service, "ExecStart")[1:])


@needs_systemd
@pytest.mark.parametrize("service", LOADERS)
def test_systemd_finds_nothing_wrong(service: str, tmp_path: Path) -> None:
    for name in (f"splitcodec-{service}", "python"):
        (tmp_path / name).symlink_to("/bin/true")
    moved = tmp_path / unit(service).name
    moved.write_text(unit(service).read_text().replace(HOME, str(tmp_path)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(moved)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("service", LOADERS)
def test_the_unit_is_locked_in(service: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit(service))],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stderr
    assert float(level[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("service", LOADERS)
def test_flags_are_settings_and_data_lies_in_the_state_directory(service: str) -> None:
    section = entries(service)["Service"]
    loaded = settings(service)
    folder = loaded.state_dir if isinstance(loaded, EdgeSettings) else loaded.data_dir
    assert folder == Path("/var/lib") / section["StateDirectory"]
    assert int(section["TimeoutStopSec"]) > loaded.shutdown_grace_s
    health = words(service, "ExecStartPost")
    assert health[1:3] == ["-m", f"{service}.health"]
    patience_s, flags = split_wait(health[3:])
    assert LOADERS[service](flags) == loaded
    assert int(section["TimeoutStartSec"]) > patience_s > 0


def test_users_are_made_by_sysusers() -> None:
    made = {line.split()[1] for line in (FOLDER / "splitcodec.sysusers").read_text().splitlines()}
    assert made == {entries(service)["Service"]["User"] for service in LOADERS}


@pytest.mark.slow
@pytest.mark.parametrize("service", LOADERS)
def test_the_units_commands_start_become_ready_and_stop(service: str, tmp_path: Path) -> None:
    """What systemd would do, with a folder and ports of this test's own."""
    script = Path(sys.executable).parent
    moved = {f"/var/lib/splitcodec-{service}": str(tmp_path), HOME: str(script)}

    def here(key: str) -> list[str]:
        command = entries(service)["Service"][key]
        for old, new in moved.items():
            command = command.replace(old, new)
        return shlex.split(command)

    name = "SPLITCODEC_EDGE_PORT" if service == "edge" else "SPLITCODEC_CLOUD_METRICS_PORT"
    environment = {**os.environ, "SPLITCODEC_CLOUD_PORT": "0", name: "0"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            here("ExecStart"), env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            environment[name] = str(ports["http_port" if service == "edge" else "metrics_port"])
            done = subprocess.run(here("ExecStartPost"), env=environment, check=False)
            assert done.returncode == 0, (tmp_path / "log").read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()

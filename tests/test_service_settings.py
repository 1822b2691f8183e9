"""What the settings of both services have in common: where they come from, and how to ask for the version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.settings import default_data_dir
from cloud.settings import load_settings as load_cloud
from edge.settings import default_state_dir
from edge.settings import load_settings as load_edge
from splitcodec.cli import app
from splitcodec.errors import SettingsError

LOADERS = {"edge": load_edge, "cloud": load_cloud}


@pytest.fixture(params=list(LOADERS))
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_version_has_the_form_of_the_commands(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        LOADERS[service](["--version"])
    told = CliRunner().invoke(app, ["--version"]).output
    assert (ended.value.code, capsys.readouterr().out) == (
        0,
        told.replace("splitcodec", f"splitcodec-{service}"),
    )


def test_help_names_the_version_flag(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        LOADERS[service](["--help"])
    assert "--version" in capsys.readouterr().out


@pytest.mark.slow
def test_the_process_tells_its_version_and_ends(service: str) -> None:
    done: Any = subprocess.run([sys.executable, "-m", service, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"splitcodec-{service} ")


@pytest.mark.parametrize(
    ("folder", "variable", "usual"),
    [
        (default_state_dir, "XDG_STATE_HOME", ".local/state/splitcodec-edge"),
        (default_data_dir, "XDG_DATA_HOME", ".local/share/splitcodec-cloud"),
    ],
    ids=list(LOADERS),
)
def test_folders_follow_the_desktop_standard(
    folder: Callable[[], Path], variable: str, usual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/var/lib/x")
    assert folder() == Path("/var/lib/x") / Path(usual).name
    monkeypatch.delenv(variable)
    assert folder() == Path.home() / usual


def test_the_default_folder_is_the_users_and_a_user_without_one_is_told(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, flag = {"edge": ("XDG_STATE_HOME", "state_dir"), "cloud": ("XDG_DATA_HOME", "data_dir")}[
        service
    ]
    monkeypatch.setenv(variable, "/var/lib/x")
    assert getattr(LOADERS[service]([]), flag) == Path(f"/var/lib/x/splitcodec-{service}")
    monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", "~")  # what is left where neither HOME nor the list of users has one
    with pytest.raises(SettingsError, match=f"no home folder; set HOME or {variable}, or {flag}"):
        LOADERS[service]([])
    assert getattr(LOADERS[service]([f"--{flag.replace('_', '-')}=/srv/x"]), flag) == Path("/srv/x")

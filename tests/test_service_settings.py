"""What the settings of both services have in common: where they come from, and how one asks for the version."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.settings import load_settings as load_cloud
from edge.settings import load_settings as load_edge
from splitcodec.cli import app

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

"""What the settings of both services have in common: where they come from, and how to ask for the version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud.health import ready_place as cloud_place
from cloud.settings import default_data_dir
from cloud.settings import load_settings as load_cloud
from edge.health import ready_place as edge_place
from edge.settings import CameraGoal, default_state_dir
from edge.settings import load_settings as load_edge
from splitcodec.cli import app
from splitcodec.errors import SettingsError

LOADERS = {"edge": load_edge, "cloud": load_cloud}
OPERATIONS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BROKEN = {
    "no value": b"port = ",
    "no text": b"\xff\xfe",
    "too deep": b"port = " + b"[" * 100_000,
    "said twice": b"port = 1\nport = 2\n",
}


@pytest.fixture(params=list(LOADERS))
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SPLITCODEC_"):
            monkeypatch.delenv(name)


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


def test_flags_win_over_variables_over_the_file_over_defaults(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.toml"
    file.write_text('port = 1\nengine = "file"\nmax_pending_frames = 3\n')
    prefix = f"SPLITCODEC_{service.upper()}_"
    monkeypatch.setenv(f"{prefix}PORT", "2")
    monkeypatch.setenv(f"{prefix}ENGINE", "variable")
    load = LOADERS[service]
    settings = load([f"--config={file}", "--port=4"])
    assert (settings.port, settings.engine, settings.max_pending_frames) == (4, "variable", 3)
    assert settings.threads == load([]).threads
    assert settings.config == file
    monkeypatch.setenv(f"{prefix}CONFIG", str(file))
    assert (load([]).port, load([]).max_pending_frames) == (2, 3)
    other = tmp_path / "other.toml"
    other.write_text("max_pending_frames = 5\n")
    assert load([f"--config={other}"]).max_pending_frames == 5


def refusal(service: str, *flags: str) -> str:
    with pytest.raises(SettingsError) as refused:
        LOADERS[service](list(flags))
    return str(refused.value)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_toml_is_named(service: str, text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(text)
    assert re.fullmatch(
        rf"config {file} is not TOML \(.+\); correct the file", refusal(service, f"--config={file}")
    )


def test_a_file_that_is_not_there_and_a_folder_are_named(service: str, tmp_path: Path) -> None:
    for place, why in ((tmp_path / "absent.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        told = refusal(service, f"--config={place}")
        assert told == f"config {place} cannot be read ({why}); name a TOML file that this user can read"


def test_a_name_that_is_no_setting_is_told_with_what_it_may_mean(service: str, tmp_path: Path) -> None:
    file = tmp_path / "typo.toml"
    file.write_text("max-pending-frames = 3\nzebra = 1\n")
    told = refusal(service, f"--config={file}")
    assert told.startswith(f"config {file} sets max-pending-frames, zebra (for max_pending_frames?), which")
    file.write_text(f'config = "{file}"\n')
    assert f"config {file} sets config" in refusal(service, f"--config={file}")


def test_a_bad_value_names_setting_and_file(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('port = "http"\n')
    monkeypatch.setenv(f"SPLITCODEC_{service.upper()}_CONFIG", str(file))
    told = refusal(service)
    assert told.startswith("port: Input should be a valid integer")
    assert told.endswith(f"see splitcodec-{service} --help, and config {file}")


def test_an_unsafe_combination_in_the_file_is_refused(service: str, tmp_path: Path) -> None:
    file = tmp_path / "open.toml"
    file.write_text('host = "0.0.0.0"\n')
    assert "can be reached from outside" in refusal(service, f"--config={file}")


def test_health_checks_ask_where_the_file_says(service: str, tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text("port = 4711\n" if service == "edge" else "metrics_port = 4711\n")
    place = (
        edge_place(load_edge([f"--config={file}"]))
        if service == "edge"
        else cloud_place(load_cloud([f"--config={file}"]))
    )
    assert place.url == "http://127.0.0.1:4711/readyz"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "status"),
    [("{}", 2), ("{}.health", 1), ("{}.checkup", 1)],
    ids=["service", "health", "checkup"],
)
def test_a_bad_file_is_one_line_and_no_traceback(
    service: str, module: str, status: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module.format(service), f"--config={tmp_path / 'absent.toml'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert f"config {tmp_path / 'absent.toml'} cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_documented_files_are_read_as_written(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```toml\n# \S+/(\w+)\.toml\n(.*?)^```$", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in blocks] == list(LOADERS)
    for name, text in blocks:
        (tmp_path / f"{name}.toml").write_text(text)
    edge = load_edge([f"--config={tmp_path / 'edge.toml'}"])
    assert edge.source == ("door=rtsp://10.0.0.7/stream", "yard=v4l2:/dev/video0")
    assert edge.goal_of("yard") == CameraGoal(target_kbps=80, result_deadline_s=5)
    assert edge.goal_of("door") == CameraGoal(target_kbps=200)
    cloud = load_cloud([f"--config={tmp_path / 'cloud.toml'}"])
    assert (cloud.packs, cloud.data_dir) == (("default", "/srv/packs/new"), Path("/srv/splitcodec"))
    assert (cloud.max_batch, cloud.retention_days) == (8, 30)

"""The `splitcodec` command: what it says, how it fails, and that it names the extra that is missing."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_pack import write_tiny_pack
from typer.testing import CliRunner

import splitcodec
from splitcodec.cli import app, main
from splitcodec.errors import RuntimeUnavailable, TrainingError
from splitcodec.export.lists import read_labels
from splitcodec.extras import needing

COMMANDS = (
    "demo",
    "eval",
    "bench",
    "train crops",
    "train codec",
    "train prompt",
    "export",
    "pack show",
    "pack verify",
    "doctor",
    "quarantine list",
    "quarantine replay",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_pack(folder)
    return folder


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there_and_explains_itself(command: str) -> None:
    assert "Usage" in run(*command.split(), "--help")


def test_version_is_the_package_version() -> None:
    assert run("--version") == f"splitcodec {splitcodec.__version__}\n"


def test_pack_show_names_graphs_costs_tasks_and_origin(tiny: Path) -> None:
    out = run("pack", "show", str(tiny))
    for part in (
        "pack tiny, format 1",
        "head ",
        "MAC/px",
        "task detect: input 96x64 letterbox",
        "random weights",
    ):
        assert part in out


def test_pack_verify_passes_a_sound_pack(tiny: Path) -> None:
    assert run("pack", "verify", str(tiny)) == "tiny: 11 files verified, tasks detect ok\n"


def test_doctor_passes_a_sound_pack(tiny: Path) -> None:
    assert run("doctor", "--pack", str(tiny), "--engine", "ort-cpu").endswith("all is well\n")


def test_doctor_fails_when_an_engine_cannot_run(tiny: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--pack", str(tiny), "--engine", "no-such-engine"])
    assert result.exit_code == 1
    assert "PROBLEM: RuntimeUnavailable" in result.output


def test_damaged_pack_is_one_line_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_pack(tmp_path)
    (tmp_path / "codec" / "head.onnx").write_bytes(b"not the file")
    monkeypatch.setattr("sys.argv", ["splitcodec", "pack", "verify", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("PackDamaged: ")


@pytest.mark.parametrize("command", ["export", "train start", "train import"])
def test_unknown_sizes_are_refused_with_those_there_are(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--sizes", "huge"])
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert "'huge' is none of nano, base" in " ".join(result.output.replace("│", "").split())


def test_a_missing_or_malformed_list_names_its_file_and_option(tmp_path: Path) -> None:
    place = tmp_path / "tasks.json"
    words = ["export", "--codec", "c.safetensors", "--out", "p", "--tasks", str(place)]
    with pytest.raises(TrainingError, match=r"tasks\.json cannot be read .*; give a JSON file with --tasks"):
        run(*words)
    for text, said in (("{", "file: Invalid JSON"), ('[{"task": "detect"}]', "0.teacher: Field required")):
        place.write_text(text)
        with pytest.raises(TrainingError, match=rf"tasks\.json is no list for --tasks: {said}"):
            run(*words)


def test_missing_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the labels .*absent\.txt cannot be read .*line k names"):
        read_labels(tmp_path / "absent.txt")


def _without(package: str) -> Callable[..., object]:
    real = builtins.__import__

    def guarded(name: str, *rest: object) -> object:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest)  # type: ignore[arg-type]

    return guarded


def test_missing_package_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__import__", _without("colorsys"))
    says = r"colorsys is not installed.*pip install '\.\[train\]'"
    with pytest.raises(RuntimeUnavailable, match=says), needing("train"):
        import colorsys  # noqa: F401


def test_missing_module_of_our_own_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"splitcodec\.nowhere"), needing("train"):
        import splitcodec.nowhere  # noqa: F401


def test_unknown_recipe_lists_the_known_ones(tmp_path: Path) -> None:
    words = ["train", "codec", "--data", "x", "--teacher", "y", "--out", str(tmp_path), "--recipe", "best"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "base2" in result.output

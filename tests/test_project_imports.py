"""The import rule: one direction, no service imported, no torch behind a service, a light public door."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import splitcodec

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "compressai", "onnx", "onnx2torch", "pycocotools", "matplotlib", "skimage")


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def _copy_of_the_source(folder: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("splitcodec", "edge", "cloud"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.onnx", "*.npz", "__pycache__")
        )
    return folder


@pytest.mark.slow
def test_import_contracts_hold() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "line", "contract"),
    [
        ("cloud/bad.py", "import splitcodec.models", "the runtime never reaches torch BROKEN"),
        ("edge/bad.py", "def f() -> None:\n    import torch", "the runtime never reaches torch BROKEN"),
        ("splitcodec/codec.py", "import edge", "the library never imports a service BROKEN"),
        ("splitcodec/entropy/bad.py", "import splitcodec.codec", "one direction BROKEN"),
        ("edge/bad.py", "import onnxruntime", "only the runtime room imports an inference engine BROKEN"),
    ],
)
def test_import_contracts_break_on_a_wrong_import(
    tmp_path: Path, place: str, line: str, contract: str
) -> None:
    copy = _copy_of_the_source(tmp_path)
    with (copy / place).open("a") as file:
        file.write(f"\n{line}\n")
    done = _lint_imports(copy)
    assert done.returncode == 1
    assert contract in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules", ["edge.app, cloud.server", "edge.__main__, cloud.__main__", "splitcodec.cli, splitcodec.demo"]
)
def test_services_and_command_line_start_without_torch(modules: str) -> None:
    done = _run(f"import {modules}, sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_of_the_package_loads_nothing_heavy() -> None:
    done = _run("import splitcodec, sys; print('numpy' in sys.modules, 'pydantic' in sys.modules)")
    assert done.stdout.strip() == "False False", done.stdout + done.stderr


def test_public_names_are_listed_sorted_and_there() -> None:
    assert splitcodec.__all__ == sorted(splitcodec._HOMES)
    for name in splitcodec.__all__:
        home = splitcodec._HOMES[name]
        assert getattr(splitcodec, name) is getattr(import_module(home), name)
        assert name in import_module(home).__dict__


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'decode'"):
        _ = splitcodec.decode

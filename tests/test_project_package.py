"""What an installed splitcodec holds, and what it asks the package index for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import splitcodec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TOOLING = {"torch", "torchvision", "compressai", "onnx", "onnx2torch", "onnxscript", "pycocotools"}


def _names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name for line in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from this tree with the build backend that pyproject.toml names, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.slow
def test_wheel_holds_the_default_pack_whole(wheel: zipfile.ZipFile) -> None:
    pack = ROOT / "splitcodec" / "packs" / "default"
    files = [path for path in sorted(pack.rglob("*")) if path.is_file()]
    assert (pack / "manifest.json") in files
    for path in files:
        assert wheel.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


@pytest.mark.slow
def test_wheel_holds_services_stubs_type_marker_and_licences(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {
        "splitcodec/py.typed",
        "splitcodec/wire/v1/ingest_pb2_grpc.py",
        "edge/__main__.py",
        "edge/page/index.html",
        "edge/page/page.js",
        "splitcodec/client/__init__.py",
        "cloud/__main__.py",
    } <= names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "proto/", "docs/"))]


def test_runtime_asks_for_no_training_library() -> None:
    runtime = _names(
        PROJECT["dependencies"] + EXTRAS["edge"] + EXTRAS["cloud"] + EXTRAS["cpu"] + EXTRAS["demo"]
    )
    assert not runtime & TOOLING


def test_inference_runtimes_never_land_together() -> None:
    engines = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu", "jetson": "onnxruntime"}
    for extra, lines in EXTRAS.items():
        wanted = {engines[extra]} if extra in engines else set()
        assert _names(lines) & set(engines.values()) == wanted, extra
    assert "onnxruntime" in _names(EXTRAS["jetson"]), "the exact scale graph runs there alone"


def test_every_requirement_has_a_floor_and_a_ceiling() -> None:
    lines = PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]
    stubs = {"types-protobuf"}  # calendar of its own
    for line in lines:
        requirement = Requirement(line)
        operators = {clause.operator for clause in requirement.specifier}
        assert operators == ({">="} if requirement.name in stubs else {">=", "<"}), line


def test_versions_agree() -> None:
    assert splitcodec.__version__ == PROJECT["version"] == version("splitcodec")

"""Image builds: dependencies before sources, in lists that pyproject.toml tells; sources alone go in."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest.importorskip("dockerfile_parse")

from image_files import stages

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("edge", "cloud", "edge.jetson")
REQUIREMENTS = ROOT / "deploy" / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def required(name: str) -> list[str]:
    """The lines of deploy/requirements/NAME.txt, those it takes in with -r included."""
    found: list[str] = []
    for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        if line.startswith("-r "):
            found += required(line.removeprefix("-r ").removesuffix(".txt"))
        elif not line.startswith("#"):
            found.append(line)
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_image_installs_what_it_depends_on_before_its_sources_are_there(image: str) -> None:
    """Or every change of the sources would download everything again."""
    every = stages(image)
    (stage,) = (one for one in every if one.name == "install")
    installs = [i for i, (_, step) in enumerate(stage.steps) if "/pip install" in step]
    first, last = installs
    assert [step for _, step in stage.steps[:first] if "deploy/" not in step and "venv" not in step] == [
        "/src"
    ]
    assert "-c deploy/constraints.txt" in stage.steps[first][1]
    words = stage.steps[first][1].split()
    lists = [Path(words[i + 1]).stem for i, word in enumerate(words) if word == "-r"]
    assert lists == {"edge": ["edge", "cpu"], "cloud": ["cloud", "cpu"]}.get(image, ["edge", "jetson"])
    assert stage.steps[last][1].endswith("/pip install --no-cache-dir --no-deps .")
    assert not [step for one in every if one is not stage for _, step in one.steps if "pip " in step]


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("base", ()),
        ("edge", ("edge",)),
        ("cloud", ("cloud",)),
        ("scale", ("cloud", "scale")),
        ("cpu", ("cpu",)),
        ("cuda", ("cuda",)),
        ("jetson", ("jetson",)),
    ],
)
def test_requirements_are_those_of_the_project(name: str, extras: tuple[str, ...]) -> None:
    engine = name in ("cpu", "cuda", "jetson")
    wanted = [] if engine else list(PROJECT["dependencies"])
    for extra in extras:
        wanted += EXTRAS[extra]
    assert required(name) == wanted


def test_every_list_of_requirements_is_checked() -> None:
    names = {path.stem for path in REQUIREMENTS.iterdir()}
    assert names == {"base", "edge", "cloud", "scale", "cpu", "cuda", "jetson"}


def let_in(path: str) -> bool:
    """Whether a build sees a path of the tree, by .dockerignore: the last line that fits decides."""
    seen = True
    parents = [path, *(str(parent) for parent in Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        parts = re.split(r"(\*\*/|\*|\[[^]]*\])", line.removeprefix("!"))
        wild = {"**/": "(?:.*/)?", "*": "[^/]*"}
        pattern = "".join(wild.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
        if any(re.fullmatch(pattern, parent) for parent in parents):
            seen = line.startswith("!")
    return seen


def test_a_build_sees_what_the_images_copy_and_nothing_else() -> None:
    copied = {
        word
        for image in IMAGES
        for stage in stages(image)
        for value in stage.values("COPY")
        if not value.startswith("--from=")
        for word in shlex.split(value)[:-1]
    }
    for name in copied:
        place = ROOT / name
        inside = [name] if place.is_file() else [str(p.relative_to(ROOT)) for p in place.rglob("*")]
        assert inside
        for path in inside:
            assert let_in(path) != ("__pycache__" in path), path
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    for path in (
        ".git/config",
        ".venv/bin/python",
        "runs/base2/checkpoint.safetensors",
        "coco.tar",
        "server.key",
        "deploy/k8s/cloud.yaml",
        "tests/conftest.py",
        "splitcodec/__pycache__/cli.cpython-312.pyc",
        "edge/old.pyc",
    ):
        assert not let_in(path), path

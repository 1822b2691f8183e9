"""Documentation is executed: commands parse, links lead somewhere, tables are the code's own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from cloud.metrics import CloudMetrics
from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.metrics import EdgeMetrics
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge
from splitcodec.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = ROOT / "docs" / "operations.md"


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def _commands() -> list[Any]:
    """Every shell command of every page, continuation lines joined, comments and `&` dropped."""
    found = []
    for page in PAGES:
        for block in _blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    name = f"{page.name}: {line.strip()}"
                    found.append(pytest.param([word for word in words if word != "&"], id=name))
    return found


def _check_splitcodec(words: list[str]) -> None:
    """Parse the words as the command would, without running it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    command.make_context("splitcodec", list(words))


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in words:
        if "=" not in target:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _check_pip(words: list[str]) -> None:
    (requirement,) = [word for word in words if word.startswith(".")]
    for extra in re.findall(r"[\w-]+", requirement):
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE), extra


def _check_files(words: list[str]) -> None:
    for word in words:
        if "/" in word or word.endswith((".yml", ".toml")):
            assert (ROOT / word).exists(), word


CHECKS: dict[str, Any] = {
    "splitcodec": _check_splitcodec,
    "splitcodec-edge": load_edge,
    "splitcodec-cloud": load_cloud,
    "make": _check_make,
    "pip": _check_pip,
    "docker": _check_files,
    "python": _check_files,
    "promtool": _check_files,  # run in test_metrics_rules.py
    "curl": lambda words: None,  # executed in test_project_readme.py and test_client_docs.py
    "grpcurl": lambda words: None,  # executed in test_client_docs.py
    "pytest": lambda words: None,
}
# An operator's tools, on operations.md and scale-out.md: their words are checked in test_operations_doc.py.
SYSTEM = {"apt-get", "install", "kubectl", "python3", "ray", "serve", "systemctl", "systemd-sysusers"}


@pytest.mark.parametrize("words", _commands())
def test_documented_command_is_one_that_exists(words: list[str]) -> None:
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    name = words[0].rpartition("/")[2]
    if name not in SYSTEM:
        CHECKS[name](words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_text_exist(page: Path) -> None:
    pattern = r"`((?:splitcodec|edge|cloud|tests|docs|deploy|proto|\.github)/[\w./-]+)`"
    for name in re.findall(pattern, page.read_text()):
        assert (ROOT / name).exists(), name


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "of the machine"
    if isinstance(field.default, tuple):
        return ",".join(field.default)
    return "" if field.default is None else str(field.default)


def _settings_table(prefix: str, settings: type[BaseSettings]) -> str:
    rows = [f"| `{prefix}...` | default | |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        rows.append(f"| `{name.upper()}` | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def _metrics_table() -> str:
    rows: dict[str, str] = {}
    for metrics in (EdgeMetrics, CloudMetrics):
        registry = CollectorRegistry()
        for family in (metrics(registry), registry)[1].collect():
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = registry._names_to_collectors[name]._labelnames  # type: ignore[attr-defined]
            row = f"| `{name}` | {', '.join(labels)} | {family.documentation} ({family.type}) |"
            rows.setdefault(name, row)
    return "\n".join(["| metric | labels | |", "|---|---|---|", *rows.values()])


@pytest.mark.parametrize(
    ("marker", "table"),
    [
        (
            "settings",
            _settings_table("SPLITCODEC_EDGE_", EdgeSettings)
            + "\n\n"
            + _settings_table("SPLITCODEC_CLOUD_", CloudSettings),
        ),
        ("metrics", _metrics_table()),
    ],
)
def test_table_in_operations_is_what_the_code_says(
    marker: str, table: str, request: pytest.FixtureRequest
) -> None:
    begin, end = f"<!-- {marker}:begin -->\n", f"\n<!-- {marker}:end -->"
    before, _, rest = OPERATIONS.read_text().partition(begin)
    written, _, after = rest.partition(end) if end in rest else ("", "", rest.removeprefix(end.lstrip("\n")))
    if request.config.getoption("--regen"):
        OPERATIONS.write_text(before + begin + table + end + after)
        return
    assert written == table, "run pytest --regen tests/test_project_docs.py and read the diff"

"""Alert rules: each fires for its fault and is silent otherwise, as promtool runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import ROOT, RULES, names_in, promtool, series_names

CASES = RULES.with_name("rules_test.yml")
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
NEVER, ALWAYS = "vector(0) > 1", "vector(1)"


def _mutated(folder: Path, alert: str, expression: str) -> Path:
    """The cases of one alert, over rules in which it has another expression."""
    rules, cases = yaml.safe_load(RULES.read_text()), yaml.safe_load(CASES.read_text())
    for rule in rules["groups"][0]["rules"]:
        if rule["alert"] == alert:
            rule["expr"] = expression
            rule.pop("for", None)
    (folder / RULES.name).write_text(yaml.safe_dump(rules))
    cases["tests"] = [
        case
        for case in cases["tests"]
        if any(one["alertname"] == alert for one in case.get("alert_rule_test", []))
    ]
    path = folder / CASES.name
    path.write_text(yaml.safe_dump(cases))
    return path


def test_rules_are_sound() -> None:
    checked = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_case_of_every_alert_holds() -> None:
    tested = promtool("test", "rules", str(CASES))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.slow
@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
@pytest.mark.parametrize("expression", [NEVER, ALWAYS], ids=["never", "always"])
def test_cases_notice_an_alert_that_is_wrong(alert: str, expression: str, tmp_path: Path) -> None:
    assert promtool("test", "rules", str(_mutated(tmp_path, alert, expression))).returncode != 0


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alert_reads_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert names_in(rule["expr"]) <= series_names()
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]


def test_operations_page_says_what_to_do_about_each_alert() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^\| `(Splitcodec\w+)` \|", page, re.MULTILINE) == [rule["alert"] for rule in ALERTS]

"""Grafana's files: they are provisioned, and name metrics, labels and variables that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import PROMETHEUS_CONFIG, ROOT, names_in, series_names

GRAFANA = ROOT / "deploy" / "grafana"
PAGES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATASOURCE = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][
    0
]
OF_GRAFANA = {"__rate_interval"}
OF_PROMETHEUS = {"up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def _read(page: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(page.read_text())
    return dashboard


def test_the_four_dashboards_are_there() -> None:
    assert [page.stem for page in PAGES] == ["camera", "cloud", "fleet", "prompts"]
    assert len({_read(page)["uid"] for page in PAGES}) == len(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_every_panel_reads_metrics_that_exist(page: Path) -> None:
    dashboard = _read(page)
    variables = {one["name"] for one in dashboard["templating"]["list"]} | OF_GRAFANA
    for panel in dashboard["panels"]:
        assert panel["description"]
        for target in panel["targets"]:
            expression = target["expr"]
            assert names_in(expression) or any(name in expression for name in OF_PROMETHEUS), expression
            assert names_in(expression) <= series_names(), expression
            assert set(re.findall(r"\$(\w+)", expression)) <= variables, expression
            assert target["datasource"]["uid"] == DATASOURCE["uid"]
    for one in dashboard["templating"]["list"]:
        assert names_in(one["query"]["query"]) <= series_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_panels_do_not_overlap(page: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _read(page)["panels"]:
        box = panel["gridPos"]
        cells = {(box["x"] + x, box["y"] + y) for x in range(box["w"]) for y in range(box["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rates_span_what_prometheus_scrapes() -> None:
    scraped = yaml.safe_load(PROMETHEUS_CONFIG.read_text())["global"]["scrape_interval"]
    assert DATASOURCE["jsonData"]["timeInterval"] == scraped

"""For the tests of alerts and dashboards: the metric families of the code, and Prometheus's own programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric

from cloud.metrics import CloudMetrics
from edge.metrics import EdgeMetrics

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS_CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = PROMETHEUS_CONFIG.with_name("rules.yml")


def program(name: str) -> str:
    """Path of prometheus or promtool; the test is skipped where Debian's package `prometheus` is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return path


def promtool(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run promtool; output and exit status are the caller's to judge."""
    return subprocess.run(
        [program("promtool"), *words], input=stdin, capture_output=True, check=False, timeout=60
    )


def families() -> list[Metric]:
    """Every metric family of the two services."""
    found: dict[str, Metric] = {}
    for metrics in (EdgeMetrics, CloudMetrics):
        registry = CollectorRegistry()
        metrics(registry)
        found |= {family.name: family for family in registry.collect()}
    return list(found.values())


def series_names() -> set[str]:
    """Names a PromQL expression may use."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in families() for suffix in suffixes[family.type]}


def names_in(expression: str) -> set[str]:
    """The metrics of ours that a PromQL expression reads."""
    return set(re.findall(r"\bsplitcodec_[a-z0-9_]+", expression))

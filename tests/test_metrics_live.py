"""A real Prometheus scrapes both services: their metrics lint, every panel has data, alerts fire."""

from __future__ import annotations

import contextlib
import json
import math
import re
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from edge_rig import JPEG_TYPE, picture
from monitoring import PROMETHEUS_CONFIG, ROOT, RULES, program, promtool
from tiny_pack import write_three_tasks

from splitcodec.launch import Service, start_service

pytestmark = pytest.mark.slow

DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
]
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$camera": "door", "$task": ".*"}
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Site:
    """An edge that is fed, its cloud, and the Prometheus that watches them."""

    edge: Service
    cloud: Service
    prometheus: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series of an instant query."""
        answer = httpx.post(f"{self.prometheus}/api/v1/query", data={"query": expression}, timeout=20).json()
        assert answer["status"] == "success", answer
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    def metrics(self, service: Service, port: str) -> httpx.Response:
        """What a service answers on /metrics."""
        return httpx.get(f"http://127.0.0.1:{service.ports[port]}/metrics", timeout=20)


def _certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that ends within the hour, and its key."""
    pytest.importorskip("cryptography", reason="makes the certificate of this test")
    from test_cloud_tls import make_identity

    identity = make_identity("cloud")
    certificate, key = folder / "cloud.pem", folder / "cloud.key"
    certificate.write_bytes(identity.cert_pem)
    key.write_bytes(identity.key_pem)
    return certificate, key


@contextlib.contextmanager
def _prometheus(folder: Path, targets: dict[str, str]) -> Iterator[str]:
    """Prometheus with the configuration that ships, but for targets and pace; its address."""
    config = yaml.safe_load(PROMETHEUS_CONFIG.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES.with_name(name)) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    flags = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    process = subprocess.Popen(
        [program("prometheus"), *flags, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE
    )
    try:
        yield f"http://{_listening_on(process)}"
    finally:
        process.kill()
        process.communicate()


def _listening_on(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    said, deadline = b"", time.monotonic() + PATIENCE_S
    while select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = process.stderr.read1()  # type: ignore[attr-defined]
        said += line
        found = re.search(rb'msg="Listening on" address=(\S+)', said)
        if found:
            threading.Thread(target=process.stderr.read, daemon=True).start()  # the pipe must not fill up
            return found[1].decode()
        assert line, said.decode()
    raise AssertionError(said.decode())


@contextlib.contextmanager
def _fed(edge: Service) -> Iterator[None]:
    """Two cameras and three tasks, one frame in four without waiting, until the block ends."""
    stop = threading.Event()
    errors: list[Exception] = []

    def feed() -> None:
        body, number = picture(), 0
        with httpx.Client(base_url=f"http://127.0.0.1:{edge.ports['http_port']}", timeout=60) as client:
            while not stop.wait(0.05):  # a pace, nothing waits for it
                number += 1
                asked = {
                    "camera": ("door", "gate")[number % 2],
                    "task": ("detect", "segment", "classify")[number % 3],
                    "wait": str(number % 4 != 0).lower(),
                }
                client.post("/v1/frames", content=body, params=asked, headers=JPEG_TYPE).raise_for_status()

    def run() -> None:
        try:
            feed()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not errors, errors


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    program("prometheus")
    write_three_tasks(folder / "pack")
    certificate, key = _certificates(folder)
    tls = [f"--tls-cert={certificate}", f"--tls-key={key}"]
    pack = f"{folder / 'pack'}"
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(
            start_service(
                "cloud",
                [f"--packs={pack}", f"--data-dir={folder / 'cloud'}", "--metrics-port=0", *tls],
                folder,
            )
        )
        to_cloud = [f"--cloud-target=127.0.0.1:{cloud.ports['grpc_port']}", f"--cloud-ca={certificate}"]
        own = [f"--pack={pack}", f"--state-dir={folder / 'edge'}", "--target-kbps=200", "--max-cameras=3"]
        edge = stack.enter_context(start_service("edge", [*own, *to_cloud], folder))
        targets = {
            "splitcodec-edge": f"127.0.0.1:{edge.ports['http_port']}",
            "splitcodec-cloud": f"127.0.0.1:{cloud.ports['metrics_port']}",
        }
        address = stack.enter_context(_prometheus(folder, targets))
        stack.enter_context(_fed(edge))
        yield Site(edge, cloud, address)


def _eventually(site: Site, expression: str) -> list[dict[str, Any]]:
    """The series of an expression as soon as one has a number."""
    deadline = time.monotonic() + PATIENCE_S
    series: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        series = site.query(expression)
        if any(math.isfinite(float(one["value"][1])) for one in series):
            return series
        time.sleep(0.25)
    raise AssertionError(f"no data within {PATIENCE_S} s: {expression} gave {series}")


def test_both_services_are_scraped(site: Site) -> None:
    _eventually(site, "sum(up) == 2")
    assert _eventually(site, 'sum(rate(splitcodec_cloud_frames_total{outcome="stored"}[10s])) > 0')


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_of_a_panel_returns_data(panel: dict[str, Any], site: Site) -> None:
    for target in panel["targets"]:
        expression: str = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        assert "$" not in expression
        _eventually(site, expression)


def test_alerts_are_loaded_and_a_certificate_of_an_hour_fires(site: Site) -> None:
    fired = _eventually(site, 'ALERTS{alertname="SplitcodecCertificateExpiring", alertstate="firing"}')
    assert "server" in {one["metric"]["use"] for one in fired}
    others = site.query('ALERTS{alertname!="SplitcodecCertificateExpiring"}')
    assert [one["metric"]["alertname"] for one in others] == []


@pytest.mark.parametrize(("name", "port"), [("edge", "http_port"), ("cloud", "metrics_port")])
def test_promtool_finds_nothing_in_the_metrics(name: str, port: str, site: Site) -> None:
    _eventually(site, 'sum(splitcodec_edge_frames_total{outcome="ok"}) > 3')
    answer = site.metrics(getattr(site, name), port)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    checked = promtool("check", "metrics", stdin=answer.content)
    assert checked.returncode == 0, checked.stdout + checked.stderr

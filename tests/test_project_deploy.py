"""Dockerfile, compose file and Prometheus config against the settings and ports of the services."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge
from splitcodec.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "cpu.Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
LOADERS = {"edge": load_edge, "cloud": load_cloud}


def _stage(name: str) -> str:
    """The lines of one stage of the Dockerfile, continuations joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM|\Z)", joined, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def _image_environment(service: str) -> dict[str, str]:
    return dict(re.findall(r"(SPLITCODEC_\w+)=(\S+)", _stage(service)))


def _environment(service: str) -> dict[str, str]:
    return _image_environment(service) | COMPOSE["services"][service]["environment"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each service reads inside its container."""
    for service in LOADERS:
        for name, value in _environment(service).items():
            monkeypatch.setenv(name, value)
    return {service: load([]) for service, load in LOADERS.items()}


@pytest.mark.parametrize("service", LOADERS)
def test_every_variable_is_a_setting(service: str) -> None:
    fields = {"edge": EdgeSettings, "cloud": CloudSettings}[service].model_fields
    prefix = f"SPLITCODEC_{service.upper()}_"
    assert {name.removeprefix(prefix).lower() for name in _environment(service)} <= set(fields)


@pytest.mark.parametrize("service", LOADERS)
def test_image_alone_refuses_to_serve_the_public_without_tls(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _image_environment(service).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="can be reached from outside"):
        LOADERS[service]([])


def test_exposed_ports_are_the_ports_served(settings: dict[str, Any]) -> None:
    want = {
        "edge": {settings["edge"].port},
        "cloud": {settings["cloud"].port, settings["cloud"].metrics_port},
    }
    for service, ports in want.items():
        (exposed,) = re.findall(r"^EXPOSE (.+)$", _stage(service), re.MULTILINE)
        assert {int(port) for port in exposed.split()} == ports
        (checked,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", _stage(service))
        assert int(checked) in ports


def test_compose_publishes_on_the_loopback_address_only(settings: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items()}
    assert published["edge"] == [f"127.0.0.1:8080:{settings['edge'].port}"]
    assert published["cloud"] == [f"127.0.0.1:50051:{settings['cloud'].port}"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_edge_sends_to_the_cloud_of_the_compose_file(settings: dict[str, Any]) -> None:
    assert settings["edge"].cloud_target == f"cloud:{settings['cloud'].port}"


def test_data_lies_in_the_volume(settings: dict[str, Any]) -> None:
    for service, folder in (("edge", settings["edge"].state_dir), ("cloud", settings["cloud"].data_dir)):
        (volume,) = COMPOSE["services"][service]["volumes"]
        assert volume.split(":")[0] in COMPOSE["volumes"]
        assert folder.is_relative_to(volume.split(":")[1])


def test_prometheus_scrapes_what_is_served(settings: dict[str, Any]) -> None:
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    assert targets == {
        "splitcodec-edge": [f"edge:{settings['edge'].port}"],
        "splitcodec-cloud": [f"cloud:{settings['cloud'].metrics_port}"],
    }
    (mounted,) = COMPOSE["services"]["prometheus"]["volumes"]
    assert (ROOT / mounted.split(":")[0]).is_file()


def test_image_is_built_from_files_that_exist_and_stages_that_are_there() -> None:
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
    for service in ("edge", "cloud"):
        build = COMPOSE["services"][service]["build"]
        assert (ROOT / build["dockerfile"]).is_file()
        assert _stage(build["target"])

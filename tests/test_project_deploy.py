"""Dockerfiles, compose file and Prometheus config against the settings and ports of the services."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from cloud.health import ready_place as cloud_place
from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.health import ready_place as edge_place
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge
from splitcodec.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest.importorskip("dockerfile_parse")

from image_files import Stage, stages

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
OWN = ("edge", "cloud")
LOADERS = {"edge": load_edge, "cloud": load_cloud}
IMAGES = {"edge": "edge", "cloud": "cloud", "edge.jetson": "edge"}


def last(image: str) -> Stage:
    return stages(image)[-1]


def image_environment(image: str) -> dict[str, str]:
    return {
        name: value for name, value in last(image).environment().items() if name.startswith("SPLITCODEC_")
    }


def environment(service: str) -> dict[str, str]:
    return image_environment(service) | COMPOSE["services"][service]["environment"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each service reads inside its container."""
    for service in OWN:
        for name, value in environment(service).items():
            monkeypatch.setenv(name, value)
    return {service: LOADERS[service]([]) for service in OWN}


@pytest.mark.parametrize("service", OWN)
def test_every_variable_is_a_setting(service: str) -> None:
    fields = {"edge": EdgeSettings, "cloud": CloudSettings}[service].model_fields
    prefix = f"SPLITCODEC_{service.upper()}_"
    names = [
        *environment(service),
        *(name for i, s in IMAGES.items() if s == service for name in image_environment(i)),
    ]
    assert {name.removeprefix(prefix).lower() for name in names} <= set(fields)


@pytest.mark.parametrize("image", IMAGES)
def test_image_alone_refuses_to_serve_the_public_without_tls(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in image_environment(image).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="can be reached from outside"):
        LOADERS[IMAGES[image]]([])


@pytest.mark.parametrize("image", IMAGES)
def test_image_runs_its_service_as_a_plain_user_with_pinned_parts(image: str) -> None:
    stage = last(image)
    service = IMAGES[image]
    assert stage.command("ENTRYPOINT") == [f"splitcodec-{service}"]
    assert stage.command("HEALTHCHECK") == ["python", "-m", f"{service}.health"]
    (user,) = stage.values("USER")
    assert user == "10001:10001"
    assert any(f"--uid {user.partition(':')[0]}" in step for step in stage.values("RUN"))
    base = stages(image)[0].base
    assert re.search(r":[^:]*\d+\.\d+", base), f"{base} has no version"
    assert ":latest" not in base


def test_constraints_pin_every_dependency_of_the_images_within_its_range() -> None:
    pins = {}
    for line in (ROOT / "deploy" / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            (exact,) = pin.specifier
            assert exact.operator == "=="
            pins[pin.name.lower().replace("_", "-")] = exact.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [
        *project["dependencies"],
        *(one for name in ("edge", "cloud", "cpu", "scale") for one in extras[name]),
    ]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name.lower()]), text


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_built_from_files_that_exist(image: str) -> None:
    names = [stage.name for stage in stages(image)]
    for stage in stages(image):
        for copied in stage.values("COPY"):
            words = shlex.split(copied)
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in names
            else:
                assert all((ROOT / name).exists() for name in words[:-1])


def test_exposed_ports_and_health_are_those_served(settings: dict[str, Any]) -> None:
    want = {
        "edge": {settings["edge"].port},
        "cloud": {settings["cloud"].port, settings["cloud"].metrics_port},
    }
    for service, ports in want.items():
        (exposed,) = last(service).values("EXPOSE")
        assert {int(port) for port in exposed.split()} == ports
    assert edge_place(settings["edge"]).url == f"http://127.0.0.1:{settings['edge'].port}/readyz"
    assert cloud_place(settings["cloud"]).url == f"http://127.0.0.1:{settings['cloud'].metrics_port}/readyz"


def test_compose_publishes_on_the_loopback_address_only(settings: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items()}
    assert published["edge"] == [f"127.0.0.1:8080:{settings['edge'].port}"]
    assert published["cloud"] == [f"127.0.0.1:50051:{settings['cloud'].port}"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_compose_containers_cannot_write_their_system_or_gain_rights() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        image = service["image"]
        assert re.search(r":v?\d+\.\d+", image), image


def test_compose_gives_longer_to_stop_than_the_services_take(settings: dict[str, Any]) -> None:
    for service in OWN:
        grace = float(COMPOSE["services"][service]["stop_grace_period"].removesuffix("s"))
        assert grace > settings[service].shutdown_grace_s


def test_edge_sends_to_the_cloud_of_the_compose_file(settings: dict[str, Any]) -> None:
    assert settings["edge"].cloud_target == f"cloud:{settings['cloud'].port}"


def test_data_lies_in_the_volume(settings: dict[str, Any]) -> None:
    for service, folder in (("edge", settings["edge"].state_dir), ("cloud", settings["cloud"].data_dir)):
        (volume,) = COMPOSE["services"][service]["volumes"]
        assert volume.split(":")[0] in COMPOSE["volumes"]
        assert folder.is_relative_to(volume.split(":")[1])
        assert last(service).values("VOLUME") == [volume.split(":")[1]]


def test_prometheus_and_grafana_find_what_they_read(settings: dict[str, Any]) -> None:
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    assert targets == {
        "splitcodec-edge": [f"edge:{settings['edge'].port}"],
        "splitcodec-cloud": [f"cloud:{settings['cloud'].metrics_port}"],
    }
    for service in ("prometheus", "grafana"):
        for mounted in COMPOSE["services"][service]["volumes"]:
            here, there = mounted.split(":")[:2]
            assert (ROOT / here).exists() if here.startswith(".") else here in COMPOSE["volumes"], there
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in COMPOSE["services"]["grafana"]["volumes"]}
    provisioning = ROOT / mounts["/etc/grafana/provisioning"]
    for provider in yaml.safe_load((provisioning / "dashboards" / "splitcodec.yml").read_text())["providers"]:
        assert any(Path(provider["options"]["path"]).is_relative_to(there) for there in mounts)
        assert list((ROOT / mounts[provider["options"]["path"]]).glob("*.json"))
    for rules in PROMETHEUS.get("rule_files", []):
        folder = os.path.dirname("/etc/prometheus/prometheus.yml")
        assert any(
            mount.split(":")[1] == f"{folder}/{rules}"
            for mount in COMPOSE["services"]["prometheus"]["volumes"]
        )

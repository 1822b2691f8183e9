"""Kubernetes manifests: Kubernetes' own schemas, ports, names, probes and variables against the services."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cloud.metrics import CloudMetrics
from cloud.settings import CloudSettings
from cloud.settings import load_settings as load_cloud
from edge.settings import EdgeSettings
from edge.settings import load_settings as load_edge

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, about how it finds its schemas
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

Document = dict[str, Any]
FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "k8s"
OPERATORS = {
    "RayService": "ray.io/v1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
}  # no schemas of theirs here
SERVICES = {"edge": (EdgeSettings, load_edge), "cloud": (CloudSettings, load_cloud)}
TMPFS = ("/tmp", "/dev/shm")


def documents() -> list[Document]:
    return [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


def find(kind: str, name: str) -> Document:
    (found,) = [one for one in documents() if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def cloud_on_ray() -> Document:
    """The cloud's Deployment with the patch on it, as `kubectl patch` merges lists of named things."""
    patched = copy.deepcopy(find("Deployment", "splitcodec-cloud"))
    patch = yaml.safe_load((FOLDER / "patches" / "cloud-on-ray.yaml").read_text())
    _merge(patched["spec"], patch["spec"])
    return patched


def _merge(into: Document, change: Document) -> None:
    for key, value in change.items():
        here = into.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            _merge(here, value)
        elif isinstance(value, list) and isinstance(here, list) and key != "args":
            by = "mountPath" if key == "volumeMounts" else "name"
            for item in value:
                same = [one for one in here if one[by] == item[by]]
                _merge(same[0], item) if same else here.append(item)
        else:
            into[key] = value


def workloads() -> Iterator[tuple[str, Document]]:
    """Name and pod template of everything that makes pods."""
    for one in [*documents(), cloud_on_ray()]:
        if one["kind"] in ("Deployment", "DaemonSet"):
            yield one["metadata"]["name"], one["spec"]["template"]
        elif one["kind"] == "RayService":
            config = one["spec"]["rayClusterConfig"]
            for group in (config["headGroupSpec"], *config["workerGroupSpecs"]):
                yield one["metadata"]["name"], group["template"]


@pytest.mark.parametrize(
    "document", [*documents(), cloud_on_ray()], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_manifests_keep_the_schemas_of_kubernetes(document: Document) -> None:
    if document["kind"] in OPERATORS:
        assert document["apiVersion"] == OPERATORS[document["kind"]]
        return
    kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_config_maps_hold_settings_that_the_service_takes(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = find("ConfigMap", f"splitcodec-{service}")
    kind, load = SERVICES[service]
    prefix = f"SPLITCODEC_{service.upper()}_"
    for name, value in namespace["data"].items():
        assert name.removeprefix(prefix).lower() in kind.model_fields
        monkeypatch.setenv(name, value)
    assert not load([]).insecure  # and it does not refuse its public address


@pytest.mark.parametrize(("service", "workload"), [("cloud", "Deployment"), ("edge", "DaemonSet")])
def test_ports_probes_and_files_are_those_of_the_settings(
    service: str, workload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"splitcodec-{service}"
    for variable, value in find("ConfigMap", name)["data"].items():
        monkeypatch.setenv(variable, value)
    settings = SERVICES[service][1]([])
    pod = find(workload, name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    http = settings.port if isinstance(settings, EdgeSettings) else settings.metrics_port
    assert set(ports.values()) == {settings.port, http}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert ports[get["port"]] == http
        assert get["scheme"] == "HTTPS"
        assert get["path"] == ("/healthz" if probe == "livenessProbe" else "/readyz")
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    for field in ("tls_cert", "tls_key", "token_file", "cloud_ca", "cloud_token_file"):
        path = getattr(settings, field, None)
        assert path is None or mounts[str(path.parent)]["readOnly"]
    data = settings.state_dir if isinstance(settings, EdgeSettings) else settings.data_dir
    assert not mounts[str(data)].get("readOnly", False)
    assert {one["name"] for one in container["volumeMounts"]} <= {one["name"] for one in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] > settings.shutdown_grace_s
    served = {one["targetPort"]: one["port"] for one in find("Service", name)["spec"]["ports"]}
    assert served == ports


def test_edge_sends_to_the_cloud_service() -> None:
    target = find("ConfigMap", "splitcodec-edge")["data"]["SPLITCODEC_EDGE_CLOUD_TARGET"]
    service = find("Service", "splitcodec-cloud")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert target == f"{host}:{service['spec']['ports'][0]['port']}"


def test_no_pod_runs_as_root_or_gains_rights() -> None:
    for name, template in workloads():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"]["drop"] == ["ALL"]
            writable = {
                one["mountPath"] for one in container.get("volumeMounts", []) if not one.get("readOnly")
            }
            assert (
                rights.get("readOnlyRootFilesystem") or name == "splitcodec"
            )  # KubeRay mounts what Ray needs
            assert writable <= {*TMPFS, "/var/lib/splitcodec"}


def test_selectors_find_their_pods() -> None:
    pods = [template["metadata"]["labels"] for _, template in workloads()]
    services = [one["metadata"].get("labels", {}) for one in documents() if one["kind"] == "Service"]
    for one in documents():
        spec = one.get("spec", {})
        if one["kind"] == "ServiceMonitor":
            assert any(spec["selector"]["matchLabels"].items() <= labels.items() for labels in services)
        elif one["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "DaemonSet"):
            selector = spec["podSelector"] if one["kind"] == "NetworkPolicy" else spec["selector"]
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= labels.items() for labels in pods), one["metadata"]["name"]


def test_service_monitors_read_a_port_that_exists_over_tls_with_a_token() -> None:
    for one in documents():
        if one["kind"] == "ServiceMonitor":
            service = find("Service", one["metadata"]["name"])
            (endpoint,) = one["spec"]["endpoints"]
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            assert (endpoint["path"], endpoint["scheme"]) == ("/metrics", "https")
            assert endpoint["authorization"]["credentials"]["key"] == "token"


def test_autoscaler_reads_a_metric_of_the_cloud_and_scales_workers_of_the_cluster() -> None:
    registry = CollectorRegistry()
    CloudMetrics(registry)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    scaler = find("HorizontalPodAutoscaler", "splitcodec-ray-workers")["spec"]
    (metric,) = scaler["metrics"]
    assert metric["object"]["metric"]["name"] in names
    assert (
        metric["object"]["describedObject"]["name"] == find("Service", "splitcodec-cloud")["metadata"]["name"]
    )
    rules = yaml.safe_load(find("ConfigMap", "splitcodec-adapter-rules")["data"]["config.yaml"])
    assert rules["rules"][0]["seriesQuery"].startswith(metric["object"]["metric"]["name"] + "{")
    workers = find(scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"])
    (container,) = workers["spec"]["template"]["spec"]["containers"]
    assert f"--num-cpus={container['resources']['limits']['cpu']}" in container["command"]
    head = f"{find('RayService', 'splitcodec')['metadata']['name']}-head-svc"
    joins = [
        " ".join(container["command"]),
        cloud_on_ray()["spec"]["template"]["spec"]["containers"][0]["args"][0],
    ]
    assert all(f"--address={head}:6379" in command for command in joins)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["k8s/ray.yaml", "ray-serve.yaml"])
def test_ray_applications_have_options_that_the_application_takes(place: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install splitcodec[scale]")
    document = next(yaml.safe_load_all((FOLDER.parent / place).read_text()))
    config = yaml.safe_load(document["spec"]["serveConfigV2"]) if "spec" in document else document
    from ray.serve.schema import ServeDeploySchema

    from cloud.ray_app import APP_NAME, AppOptions

    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.name == APP_NAME
    module, _, function = application.import_path.partition(":")
    build = getattr(importlib.import_module(module), function)
    names = {deployment.name for deployment in _deployments(build(AppOptions(**application.args)))}
    assert {name.partition("-")[0] for name in names} == {"decoder", "tail", "directory"}


def _deployments(application: Any) -> list[Any]:
    bound = [application, *application._bound_deployment.init_args[1:]]
    return [one._bound_deployment for one in bound]

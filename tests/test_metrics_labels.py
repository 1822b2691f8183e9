"""The label budget: what strangers send makes no series; every label is from a closed or bounded set."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from cloud_helpers import PATIENCE_S, infer_request, running
from edge_rig import edge_rig, tiny_codec
from prometheus_client import CollectorRegistry

from cloud.metrics import CloudMetrics
from edge.metrics import EdgeMetrics

BUDGET = {
    "camera": "at most max_cameras, and empty for those not served",
    "task": "tasks of the packs; in splitcodec_background_failures_total chores of the code",
    "outcome": "ok, spooled, stored, repeated, or an error class",
    "stage": "stages of the code",
    "reason": "words of the code, or an error class",
    "path": "live or spool",
    "kind": "key or held",
    "use": "uses of certificates",
    "digest": "prompts held, and the last that are gone",
    "state": "states of a prompt",
    "service": "edge or cloud",
    "version": "of the package",
    "le": "buckets",
}
BACKGROUND = "splitcodec_background_failures"


def _series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def _labels(registry: CollectorRegistry, name: str, but: str) -> set[str]:
    """Values of a label over every family but one."""
    return {
        dict(labels)[name]
        for series, labels in _series(registry)
        if name in dict(labels) and not series.startswith(but)
    }


def test_every_label_name_has_a_budget() -> None:
    used = {"le"}
    for metrics in (EdgeMetrics, CloudMetrics):
        registry = CollectorRegistry()
        metrics(registry)
        for collector in registry._collector_to_names:  # not their samples: most have none yet
            used.update(collector._labelnames)
    assert used == set(BUDGET)


async def test_devices_cameras_and_errors_of_strangers_add_nothing_to_the_cloud(tmp_path: Path) -> None:
    async with running(tmp_path) as cloud:
        await cloud.ingest.Infer(infer_request(1), timeout=PATIENCE_S)
        before = _series(cloud.registry)
        for number in range(30):
            await cloud.ingest.Infer(infer_request(number, camera=f"stranger-{number}"), timeout=PATIENCE_S)
            request = infer_request(100 + number, task=f"task-{number}")
            with pytest.raises(grpc.aio.AioRpcError):
                await cloud.ingest.Infer(request, timeout=PATIENCE_S)
        assert _series(cloud.registry) == before


async def test_cameras_of_an_edge_are_bounded_and_names_of_strangers_are_no_labels(tmp_path: Path) -> None:
    codec = tiny_codec(tmp_path)
    async with edge_rig(codec, tmp_path / "state", max_cameras=3) as rig:
        for number in range(10):
            await rig.post(b"no picture", camera=f"camera-{number}")
            await rig.post(b"no picture", task=f"task-{number}")
            await rig.http.get(f"/v1/frames/stranger-{number}")
        registry = rig.pipeline.metrics.registry
        assert _labels(registry, "camera", but=BACKGROUND) == {""}
        for number in range(10):
            await rig.post(camera=f"camera-{number}")
        assert _labels(registry, "camera", but=BACKGROUND) == {"", "camera-0", "camera-1", "camera-2"}
        assert _labels(registry, "task", but=BACKGROUND) == {"detect"}
        assert not any("stranger" in value for _, labels in _series(registry) for _, value in labels)


def test_a_camera_that_is_forgotten_leaves_no_series_but_those_of_its_source() -> None:
    metrics = EdgeMetrics(registry := CollectorRegistry())
    families = [family for family in vars(metrics).values() if "camera" in getattr(family, "_labelnames", ())]
    assert len(families) >= 12
    for family in families:
        family.labels(**{name: "door" if name == "camera" else "x" for name in family._labelnames})
    metrics.forget_camera("door")
    left = {name for name, labels in _series(registry) if dict(labels).get("camera") == "door"}
    assert left
    assert all(name.startswith("splitcodec_edge_source_") for name in left), left

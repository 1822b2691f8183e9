"""The doctor: names the engine of each graph and fails loudly when a GPU was asked for and is not used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import tiny_pack

from splitcodec.doctor import (
    DoctorReport,
    distribution_problems,
    examine,
    gpu_problems,
    installed_runtimes,
)
from splitcodec.runtime import ENGINES


class FakeSession:
    """A session that says where it runs."""

    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __init__(self, name: str, engine: str, placement: Mapping[str, int]) -> None:
        self.name, self.engine, self.placement = name, engine, placement

    def run(self, inputs: object) -> dict[str, object]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "tiny"
    tiny_pack.write_tiny_pack(folder)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> DoctorReport:
    return examine(folder, "ort-cpu")


def test_every_graph_is_listed_with_its_engine(report: DoctorReport) -> None:
    names = [graph.graph for graph in report.graphs]
    assert names == ["head", "hyper_encoder", "scale", "quantizer", "decoder", "tail detect"]
    assert {graph.engine for graph in report.graphs} == {"onnxruntime-cpu"}
    assert all(graph.placement["CPUExecutionProvider"] > 0 for graph in report.graphs)
    assert any(line.startswith("graph scale: onnxruntime-cpu") and "exact" in line for line in report.lines())


def test_unavailable_engines_are_listed_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a GPU, whatever this one has."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("splitcodec.runtime.tensorrt.why_not", lambda: "no GPU today")
    report = examine(folder, "ort-cpu")
    missing = {row.engine: row.reason for row in report.engines if not row.available}
    assert set(missing) == set(ENGINES) - {"auto", "ort-cpu"}
    assert missing["tensorrt"] == "no GPU today"
    for engine, reason in missing.items():
        assert reason
        assert f"engine {engine}: not available: {reason}" in report.lines()


def test_gpu_asked_for_and_missing_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    report = examine(folder, "ort-cuda")
    assert not report.ok
    assert any("no CUDAExecutionProvider" in problem for problem in report.problems)
    assert report.lines()[-1].endswith("problems")


def test_missing_pack_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    report = examine(tmp_path / "none")
    assert any(problem.startswith("PackNotFound: ") for problem in report.problems)


def test_both_onnxruntimes_installed_is_a_problem() -> None:
    installed = installed_runtimes([("onnxruntime", "1.31"), ("onnxruntime_gpu", "1.30"), ("numpy", "2")])
    assert installed == {"onnxruntime": "1.31", "onnxruntime-gpu": "1.30"}
    (problem,) = distribution_problems(installed)
    assert "onnxruntime 1.31 and onnxruntime-gpu 1.30" in problem
    assert distribution_problems({"onnxruntime": "1.31"}) == []


def test_tensorrt_11_beside_onnxruntime_gpu_is_a_problem() -> None:
    (problem,) = distribution_problems({"onnxruntime-gpu": "1.31", "tensorrt": "11.4"})
    assert "tensorrt 11.4" in problem
    assert distribution_problems({"onnxruntime-gpu": "1.31", "tensorrt": "10.16"}) == []


def test_graph_left_on_the_cpu_is_a_problem_when_a_gpu_was_asked_for() -> None:
    slow = FakeSession("head", "onnxruntime-cuda", {"CPUExecutionProvider": 9})
    (problem,) = gpu_problems(slow, "ort-cuda")
    assert "graph head runs on the CPU" in problem
    assert gpu_problems(slow, "auto") == []
    mixed = FakeSession("head", "onnxruntime-cuda", {"CPUExecutionProvider": 2, "CUDAExecutionProvider": 7})
    assert gpu_problems(mixed, "ort-cuda") == []
    exact = FakeSession("scale", "onnxruntime-cpu", {"CPUExecutionProvider": 9})
    assert gpu_problems(exact, "ort-cuda") == []


def test_this_installation_has_one_onnxruntime() -> None:
    installed = installed_runtimes()
    assert len({"onnxruntime", "onnxruntime-gpu"} & set(installed)) == 1

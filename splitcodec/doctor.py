"""Says which engine really runs each graph, why not a better one, and what is wrong with the installation."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from splitcodec.codec import FeatureDecoder, FeatureEncoder
from splitcodec.errors import SplitcodecError
from splitcodec.packs import Pack, load_pack
from splitcodec.runtime import EngineStatus, Session, engine_status, open_session

RUNTIMES: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
)
"""Distributions that bring an inference engine."""
GPU_ENGINES: Final = ("ort-cuda", "ort-tensorrt", "tensorrt")
_CPU: Final = "CPUExecutionProvider"


@dataclass(frozen=True)
class GraphReport:
    """One graph: the engine that runs it and how many operators each execution provider took."""

    graph: str
    engine: str
    placement: Mapping[str, int]
    note: str


@dataclass(frozen=True)
class DoctorReport:
    """What `examine` found; `problems` is empty when all is well."""

    machine: str
    asked: str
    installed: Mapping[str, str]
    engines: tuple[EngineStatus, ...]
    graphs: tuple[GraphReport, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report for people, one line each."""
        rows = [f"machine: {self.machine}", f"engine asked for: {self.asked}"]
        rows += [f"installed: {name} {version}" for name, version in self.installed.items()]
        for row in self.engines:
            rows.append(
                f"engine {row.engine}: {'available' if row.available else f'not available: {row.reason}'}"
            )
        for graph in self.graphs:
            where = ", ".join(f"{count} operators on {name}" for name, count in graph.placement.items())
            detail = "; ".join(part for part in (where, graph.note) if part)
            rows.append(f"graph {graph.graph}: {graph.engine}" + (f" ({detail})" if detail else ""))
        rows += [f"PROBLEM: {problem}" for problem in self.problems]
        return [*rows, "all is well" if self.ok else f"{len(self.problems)} problems"]


def examine(
    place: Path | str = "default", engine: str = "auto", threads: int = 1, *, troubles: Iterable[object] = ()
) -> DoctorReport:
    """Opens every graph of a pack with `engine`, verifies the exact branch, and reports; raises nothing of
    its own.

    troubles: what else is wrong, of which `str` gives a line; looked for after the graphs.
    A GPU engine that was asked for and does not run every float graph is a problem, and so are two
    distributions that overwrite each other's files.
    """
    installed = installed_runtimes()
    problems = distribution_problems(installed)
    graphs: list[GraphReport] = []
    try:
        sessions = _open_all(load_pack(place), engine, threads)
    except SplitcodecError as error:
        problems.append(tell(error))
    else:
        status = engine_status()
        for session in sessions:
            graphs.append(_graph_report(session, status))
            problems += gpu_problems(session, engine)
    try:
        problems += [str(trouble) for trouble in troubles]
    except SplitcodecError as error:
        if tell(error) not in problems:
            problems.append(tell(error))
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if "tegra" in platform.release():
        machine += ", Jetson"
    return DoctorReport(machine, engine, installed, engine_status(), tuple(graphs), tuple(problems))


def tell(error: SplitcodecError) -> str:
    """An error as a line of a report."""
    return f"{type(error).__name__}: {error}"


def installed_runtimes(names: Iterable[tuple[str, str]] | None = None) -> dict[str, str]:
    """Version of each installed distribution of RUNTIMES.

    `names` replaces the installed (name, version) pairs.
    """
    found = ((d.metadata["Name"], d.version) for d in distributions()) if names is None else names
    versions = {str(name).lower().replace("_", "-"): version for name, version in found}
    return {name: versions[name] for name in RUNTIMES if name in versions}


def distribution_problems(installed: Mapping[str, str]) -> list[str]:
    """Problems that the set of installed distributions alone shows."""
    problems = []
    if "onnxruntime" in installed and "onnxruntime-gpu" in installed:
        problems.append(
            f"onnxruntime {installed['onnxruntime']} and onnxruntime-gpu {installed['onnxruntime-gpu']} are "
            "both "
            "installed and overwrite each other's files, so the GPU may silently not be used; "
            "pip uninstall both, then install one"
        )
    if (
        "onnxruntime-gpu" in installed
        and (version := installed.get("tensorrt"))
        and not version.startswith("10.")
    ):
        problems.append(
            f"tensorrt {version} is installed, but onnxruntime-gpu loads TensorRT 10 only; "
            "install tensorrt-cu13>=10.15,<11"
        )
    return problems


def gpu_problems(session: Session, engine: str) -> list[str]:
    """Problems of one graph when `engine` asked for a GPU: the exact scale graph alone belongs on the CPU."""
    if engine not in GPU_ENGINES or session.name == "scale":
        return []
    placement = session.placement
    if session.engine == "onnxruntime-cpu" or (placement and set(placement) == {_CPU}):
        return [
            f"{engine} was asked for but graph {session.name} runs on the CPU; "
            "check the driver and the installed packages above"
        ]
    return []


def _open_all(pack: Pack, engine: str, threads: int) -> list[Session]:
    """Sessions of every codec graph and tail of a pack, each graph once."""
    codec = (*FeatureEncoder(pack, engine, threads).sessions, *FeatureDecoder(pack, engine, threads).sessions)
    tails = [open_session(pack.tail_bytes(t), engine, threads, name=f"tail {t}") for t in pack.tasks]
    return list({session.name: session for session in (*codec, *tails)}.values())


def _graph_report(session: Session, status: tuple[EngineStatus, ...]) -> GraphReport:
    note = ""
    if session.name == "scale":
        note = "exact: always on this engine, sigma check passed"
    elif session.engine == "onnxruntime-cpu":
        usable = [row.engine for row in status if row.available and row.engine in GPU_ENGINES]
        note = f"{', '.join(usable)} could run here" if usable else "no GPU engine is available here"
    return GraphReport(session.name, session.engine, dict(session.placement), note)

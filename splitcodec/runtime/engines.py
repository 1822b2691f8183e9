"""Chooses an engine: which ones can run here, why the others cannot, and the session that results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from splitcodec.errors import GraphFailed, RuntimeUnavailable
from splitcodec.runtime import ort, tensorrt
from splitcodec.runtime.session import Session

log = logging.getLogger(__name__)
Engine = Literal["auto", "ort-cpu", "ort-cuda", "ort-tensorrt", "tensorrt"]
ENGINES: Final[tuple[str, ...]] = get_args(Engine)
PREFERENCE: Final = ("ort-cuda", "tensorrt", "ort-cpu")
"""What `auto` takes first. ort-tensorrt is never automatic: it rebuilds engines while frames wait."""


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can run here; `reason` says why not, and is empty if it can."""

    engine: str
    available: bool
    reason: str


def engine_status() -> tuple[EngineStatus, ...]:
    """Every engine but `auto`, with the reason why it cannot run here."""
    rows = []
    for engine in ENGINES[1:]:
        reason = tensorrt.why_not() if engine == "tensorrt" else ort.why_not(engine)
        rows.append(EngineStatus(engine, reason is None, reason or ""))
    return tuple(rows)


def choose_engine(engine: str) -> str:
    """The engine that `auto` stands for here, or `engine` itself.

    Raises RuntimeUnavailable with every reason.
    """
    if engine not in ENGINES:
        raise RuntimeUnavailable(f"no engine is called {engine!r}; choose one of {list(ENGINES)}")
    status = {row.engine: row for row in engine_status()}
    if engine == "auto":
        for choice in PREFERENCE:
            if status[choice].available:
                return choice
        reasons = "; ".join(f"{row.engine}: {row.reason}" for row in status.values())
        raise RuntimeUnavailable(f"no inference engine can run here: {reasons}")
    if not status[engine].available:
        raise RuntimeUnavailable(f"engine {engine} cannot run here: {status[engine].reason}")
    return engine


def open_session(
    model: bytes | Path | str, engine: str = "auto", threads: int = 1, *, name: str = "", exact: bool = False
) -> Session:
    """A session for an ONNX model, given as bytes or as a path.

    engine: one of ENGINES; `auto` takes the first of PREFERENCE that is installed and really opens the graph.
    One that does not is a warning.
    threads: CPU threads inside one operator. name: for messages, by default the file's name.
    exact: for the scale graph: ONNX Runtime CPU without graph rewriting, whatever `engine` says.
    Raises RuntimeUnavailable if the engine cannot run here, GraphFailed if it refuses the model.
    """
    data = model if isinstance(model, bytes) else _read(Path(model))
    label = name or ("model" if isinstance(model, bytes) else Path(model).stem)
    if exact:
        return ort.OrtSession(data, label, "ort-cpu", threads, exact=True)
    if engine == "auto":
        return _open_best(data, label, threads)
    return _open(data, label, choose_engine(engine), threads)


def _open(data: bytes, name: str, engine: str, threads: int) -> Session:
    if engine == "tensorrt":
        return tensorrt.TensorRTSession(data, name)
    return ort.OrtSession(data, name, engine, threads)


def _open_best(data: bytes, name: str, threads: int) -> Session:
    """The first engine of PREFERENCE that opens the graph; the CPU's failure is final.

    An engine that is there and does not open it is a warning: the graph runs, but slower than it should.
    """
    choose_engine("auto")
    refused: list[str] = []
    session: Session | None = None
    for engine in PREFERENCE[:-1]:
        if (tensorrt.why_not() if engine == "tensorrt" else ort.why_not(engine)) is None:
            try:
                session = _open(data, name, engine, threads)
                break
            except (RuntimeUnavailable, GraphFailed) as error:
                refused.append(f"{engine}: {error}")
    if session is None:
        session = _open(data, name, PREFERENCE[-1], threads)
    if refused:
        log.warning("graph %s runs on %s, because of %s", name, session.engine, "; ".join(refused))
    return session


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise GraphFailed(f"graph {path} cannot be read ({error.strerror}); check the path") from error

"""Runs ONNX graphs behind one seam; a framework is imported only when a session of it is opened."""

from splitcodec.runtime.engines import ENGINES, EngineStatus, choose_engine, engine_status, open_session
from splitcodec.runtime.session import Session

__all__ = ["ENGINES", "EngineStatus", "Session", "choose_engine", "engine_status", "open_session"]

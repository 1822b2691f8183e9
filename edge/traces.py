"""What the edge adds to a frame's trace: its root span, and a span for an answer that came late."""

from __future__ import annotations

import time

from edge.reporting import CodedFrame
from edge.uplink import CloudAnswer
from splitcodec.tracing import Tracing, trace_id


class FrameTraces:
    """Records spans once they are over, so nothing has to be carried along with a frame."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def frame(self, coded: CodedFrame, outcome: str) -> str | None:
        """The root span, from the capture to now; its trace id, None if the frame is not traced.

        outcome: ok, or spooled: safe on disk, to be answered later.
        """
        frame = coded.frame
        span = self._tracing.frame(frame.device, frame.camera, frame.seq)
        if span is not None:
            stages = {f"splitcodec.{stage}_seconds": value for stage, value in coded.stage_seconds.items()}
            attributes: dict[str, str | int | float] = {
                "splitcodec.device": frame.device,
                "splitcodec.camera": frame.camera,
                "splitcodec.seq": frame.seq,
                "splitcodec.task": frame.task,
                "splitcodec.rate": coded.encoded.rate,
                "splitcodec.bytes": coded.encoded.num_bytes,
                "splitcodec.outcome": outcome,
                **stages,
            }
            self._tracing.root("frame", span, frame.capture_time_nanos, time.time_ns(), attributes)
        return trace_id(span)

    def late(self, answer: CloudAnswer, seconds: float) -> None:
        """A frame was answered when nobody waited any more; seconds: since it left."""
        key, now = answer.key, time.time_ns()
        span = self._tracing.frame(key.device, key.camera, key.seq)
        if span is not None:
            self._tracing.child("late answer", span, now - int(seconds * 1e9), now, {})

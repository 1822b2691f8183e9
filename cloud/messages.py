"""Between wire messages and the service's own types; whatever arrives is checked here, once."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Final

from cloud.runner import TaskOutput
from splitcodec.errors import CorruptBitstream, InvalidRequest
from splitcodec.tracing import TraceParent
from splitcodec.wire.integrity import is_intact
from splitcodec.wire.names import MAX_SEQ, NAME_REGEX
from splitcodec.wire.v1 import ingest_pb2, results_pb2

NAME: Final = re.compile(NAME_REGEX)


@dataclass(frozen=True)
class FrameKey:
    """The name of one frame for ever: device and camera match NAME, seq is in [0, MAX_SEQ]."""

    device: str
    camera: str
    seq: int

    def columns(self) -> tuple[str, str, int]:
        """device, camera, seq."""
        return self.device, self.camera, self.seq

    def __str__(self) -> str:
        return f"frame {self.device}/{self.camera}/{self.seq}"


@dataclass(frozen=True)
class IncomingFrame:
    """A frame as it arrived; times in unix nanoseconds; an empty `task` takes that of the prompt."""

    key: FrameKey
    capture_time: int
    task: str
    bitstream: bytes
    received_time: int
    parent: TraceParent | None = None


def frame_key(message: results_pb2.FrameKey) -> FrameKey:
    """The checked key. InvalidRequest names the bad field and its limit."""
    for field, value in (("device", message.device), ("camera", message.camera)):
        if not NAME.fullmatch(value):
            raise InvalidRequest(f"{field} {value[:128]!r} is not 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    if message.seq > MAX_SEQ:
        raise InvalidRequest(
            f"seq {message.seq} is above {MAX_SEQ}; number the frames of a camera from 0 upwards"
        )
    return FrameKey(message.device, message.camera, message.seq)


def incoming_frame(message: ingest_pb2.Frame) -> IncomingFrame:
    """The checked frame, received now.

    CorruptBitstream if its checksum is wrong, InvalidRequest if a field is missing or out of range.
    """
    if not is_intact(message):
        raise CorruptBitstream("the frame does not match its CRC32C: damaged on the way; send it again")
    if message.capture_time_unix_nanos <= 0:
        raise InvalidRequest(
            f"capture_time_unix_nanos is {message.capture_time_unix_nanos}; send the time of capture, above 0"
        )
    return IncomingFrame(
        frame_key(message.key),
        message.capture_time_unix_nanos,
        message.task,
        message.bitstream,
        time.time_ns(),
        TraceParent.parse(message.traceparent),
    )


def task_result(frame: IncomingFrame, output: TaskOutput, finished_time: int) -> results_pb2.TaskResult:
    """The wire form of a task output, without a cursor; finished_time in unix nanoseconds."""
    header = output.header
    result = results_pb2.TaskResult(
        key=results_pb2.FrameKey(device=frame.key.device, camera=frame.key.camera, seq=frame.key.seq),
        capture_time_unix_nanos=frame.capture_time,
        task=output.task,
        codec_digest=header.codec_digest,
        prompt_digest=header.prompt_digest,
        rate_fixed=header.rate_fixed,
        num_bytes=len(frame.bitstream),
        source_height=header.source_height,
        source_width=header.source_width,
        network_height=header.network_height,
        network_width=header.network_width,
        received_time_unix_nanos=frame.received_time,
        finished_time_unix_nanos=finished_time,
        stage_seconds=dict(output.stage_seconds),
    )
    output.answer.put(result)
    return result

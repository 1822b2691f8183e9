"""Reports of frames: of one that a client waits for, from what this edge knows of it; of a late one, from the
cloud's answer alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import simplejpeg

from edge.report import FrameReport, FrameStatus, FrameSummary, Timings
from edge.uplink import CloudAnswer, OutgoingFrame
from splitcodec.codec import EncodedFrame
from splitcodec.frame import Canvas
from splitcodec.held_bitstream import is_held
from splitcodec.wire.names import MAX_SEQ

JPEG_QUALITY: Final = 75


@dataclass(frozen=True)
class FrameSizes:
    """What a frame could have been sent as; see FrameSummary."""

    picture_bytes: int | None
    jpeg_bytes: int | None
    held: float | None


UNKNOWN_SIZES: Final = FrameSizes(None, None, None)


@dataclass(frozen=True)
class CodedFrame:
    """A frame as it goes to the cloud, and what its report needs; prompt_digest: 8 bytes."""

    frame: OutgoingFrame
    canvas: Canvas
    encoded: EncodedFrame
    codec_digest: str
    prompt_digest: bytes
    stage_seconds: dict[str, float]
    jpeg_bytes: int | None = None

    def sizes(self, picture_bytes: int) -> FrameSizes:
        """Of a frame made from a file of so many bytes."""
        held = self.encoded.held if is_held(self.frame.bitstream) else None
        return FrameSizes(picture_bytes, self.jpeg_bytes, held)

    @property
    def bpp(self) -> float:
        """Bits of the bitstream per source pixel."""
        return 8 * self.encoded.num_bytes / (self.canvas.source_height * self.canvas.source_width)


def frame_id(camera: str, seq: int) -> str:
    """The name of a frame in the HTTP interface."""
    return f"{camera}-{seq}"


def split_frame_id(name: str) -> tuple[str, int] | None:
    """Camera and seq; None if it is no frame's name."""
    camera, _, seq = name.rpartition("-")
    if not camera or not seq.isascii() or not seq.isdigit() or len(seq) > 19 or int(seq) > MAX_SEQ:
        return None
    return camera, int(seq)


def waited_report(coded: CodedFrame, answer: CloudAnswer, timings: Timings) -> FrameReport:
    """The report of a frame whose answer was waited for."""
    frame, canvas = coded.frame, coded.canvas
    return FrameReport(
        id=frame_id(frame.camera, frame.seq),
        device=frame.device,
        camera=frame.camera,
        seq=frame.seq,
        task=frame.task,
        capture_time=frame.capture_time_nanos / 1e9,
        answer=answer.answer,
        num_bytes=coded.encoded.num_bytes,
        bpp=coded.bpp,
        rate=coded.encoded.rate,
        prompt_digest=coded.prompt_digest.hex(),
        codec_digest=coded.codec_digest,
        source_height=canvas.source_height,
        source_width=canvas.source_width,
        network_height=canvas.pixels.shape[0],
        network_width=canvas.pixels.shape[1],
        timings=timings,
    )


def late_report(answer: CloudAnswer, seconds: float) -> FrameReport:
    """The report of a frame that was answered when nobody waited any more.

    seconds: since it left. `total` counts from the capture on this machine's clock; the stages of the edge
    are not known any more.
    """
    key, (height, width) = answer.key, answer.source_size
    total = max(time.time() - answer.capture_time_nanos / 1e9, seconds)
    return FrameReport(
        id=frame_id(key.camera, key.seq),
        device=key.device,
        camera=key.camera,
        seq=key.seq,
        task=answer.task,
        capture_time=answer.capture_time_nanos / 1e9,
        answer=answer.answer,
        num_bytes=answer.num_bytes,
        bpp=8 * answer.num_bytes / max(height * width, 1),
        rate=answer.rate,
        prompt_digest=answer.prompt_digest.hex(),
        codec_digest=answer.codec_digest.hex(),
        source_height=height,
        source_width=width,
        network_height=answer.network_size[0],
        network_width=answer.network_size[1],
        timings=Timings({}, dict(answer.stage_seconds), seconds, total),
    )


def jpeg_size(canvas: Canvas) -> int:
    """Bytes of what the network sees as a JPEG of quality 75; about a millisecond."""
    return len(simplejpeg.encode_jpeg(canvas.pixels, JPEG_QUALITY, colorsubsampling="420"))


def frame_summary(report: FrameReport, sizes: FrameSizes, *, has_picture: bool) -> FrameSummary:
    """A report in short."""
    return FrameSummary(
        id=report.id,
        camera=report.camera,
        task=report.task,
        capture_time=report.capture_time,
        num_bytes=report.num_bytes,
        picture_bytes=sizes.picture_bytes,
        jpeg_bytes=sizes.jpeg_bytes,
        held=sizes.held,
        rate=report.rate,
        total=report.timings.total,
        has_picture=has_picture,
        found=report.found,
        objects=report.answer.objects,
    )


def spooled_status(frame: OutgoingFrame, reason: str) -> FrameStatus:
    """Of a frame that waits on the disk; reason: why."""
    name = frame_id(frame.camera, frame.seq)
    return FrameStatus(name, frame.device, frame.camera, frame.seq, "spooled", reason)

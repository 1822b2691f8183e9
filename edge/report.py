"""What the edge tells about a frame; these types are the JSON of the HTTP interface."""

from __future__ import annotations

from dataclasses import dataclass

from splitcodec.tasks import Detection


@dataclass(frozen=True)
class Timings:
    """Seconds. edge and cloud: by stage, computing only; round_trip: from sending to the cloud's answer."""

    edge: dict[str, float]
    cloud: dict[str, float]
    round_trip: float
    total: float


@dataclass(frozen=True)
class FrameReport:
    """One frame and its result.

    capture_time: unix seconds; num_bytes: of the bitstream that was sent; bpp: its bits per source pixel;
    rate: as encoded, in steps of 1/256; digests: first 8 bytes, in hex; boxes in source pixels, best first.
    """

    id: str
    device: str
    camera: str
    seq: int
    task: str
    capture_time: float
    detections: tuple[Detection, ...]
    num_bytes: int
    bpp: float
    rate: float
    prompt_digest: str
    codec_digest: str
    source_height: int
    source_width: int
    network_height: int
    network_width: int
    timings: Timings


@dataclass(frozen=True)
class PromptReport:
    """One live prompt: what it does, and the rates a frame may ask for."""

    task: str
    prompt_digest: str
    codec_digest: str
    active: bool
    max_rate: float
    default_rate: float
    network_height: int
    network_width: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class CloudReport:
    """Where frames go, and the state of the connection in gRPC's words."""

    target: str
    state: str


@dataclass(frozen=True)
class Readiness:
    """Whether frames are taken. The cloud is told for information: an edge without it is still ready."""

    ready: bool
    device: str
    pack: str
    codec_digest: str
    engine: str
    tasks: tuple[str, ...]
    cloud: CloudReport

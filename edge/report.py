"""What the edge tells; but for the answer in FrameReport, these types are the JSON of the HTTP interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from splitcodec.tasks import TaskAnswer

MAX_FOUND: Final = 6  # classes of an answer named in short


@dataclass(frozen=True)
class Timings:
    """Seconds. edge and cloud: by stage, computing only; round_trip: from sending to the cloud's answer."""

    edge: dict[str, float]
    cloud: dict[str, float]
    round_trip: float
    total: float


@dataclass(frozen=True)
class Found:
    """One thing an answer names: a class, and how sure or how large (0..1)."""

    label: str
    share: float


@dataclass(frozen=True)
class FrameReport:
    """One frame and its result.

    capture_time: unix seconds; num_bytes: of the bitstream that was sent; bpp: its bits per source pixel;
    rate: as encoded, in steps of 1/256; digests: first 8 bytes, in hex; answer: in JSON under the name of its
    kind, see edge.frame_json.
    """

    id: str
    device: str
    camera: str
    seq: int
    task: str
    capture_time: float
    answer: TaskAnswer
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
    state: Literal["answered"] = "answered"

    @property
    def found(self) -> tuple[Found, ...]:
        """The first few classes of the answer."""
        return tuple(Found(one.label, one.value) for one in self.answer.named[:MAX_FOUND])


@dataclass(frozen=True)
class FrameSummary:
    """A recent frame in a list; times in seconds.

    picture_bytes: of the file that was posted; jpeg_bytes: of the network's input as JPEG of quality 75,
    counted while somebody looks; None if not known; held: share of the cells that were not sent, None for a
    whole frame; has_picture: its overlay can be had; found: the first few
    classes of the answer; objects: boxes, None for tasks that give none.
    """

    id: str
    camera: str
    task: str
    capture_time: float
    num_bytes: int
    picture_bytes: int | None
    jpeg_bytes: int | None
    held: float | None
    rate: float
    total: float
    has_picture: bool
    found: tuple[Found, ...]
    objects: int | None


@dataclass(frozen=True)
class HistoryStep:
    """What happened within one step from `start` (unix seconds); mean and longest: seconds to an answer."""

    start: float
    frames: int
    num_bytes: int
    picture_bytes: int
    answers: int
    mean_s: float | None
    longest_s: float | None


@dataclass(frozen=True)
class HistoryReport:
    """The last minutes, oldest step first; the newest one is still growing."""

    step_s: float
    steps: tuple[HistoryStep, ...]


@dataclass(frozen=True)
class FrameStatus:
    """A frame that has no result here.

    state: spooled (it is on this edge's disk and waits for the cloud), sent (on its way), dropped (by a limit
    of the spool), quarantined (it will not be sent any more) or, told to whoever posts it again, settled
    (answered before); reason: why, in words.
    """

    id: str
    device: str
    camera: str
    seq: int
    state: Literal["spooled", "sent", "dropped", "quarantined", "settled"]
    reason: str


@dataclass(frozen=True)
class PromptReport:
    """One live prompt: what it does, and the rates a frame may ask for.

    state: warm, active or draining (retired, but frames in work hold it); leases: such frames;
    network_height, network_width: pixels of its largest canvas; a frame's own is in its report.
    """

    task: str
    prompt_digest: str
    codec_digest: str
    active: bool
    state: str
    leases: int
    max_rate: float
    default_rate: float
    network_height: int
    network_width: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LastFrame:
    """The newest coded frame of a camera; time: unix seconds of its capture."""

    id: str
    time: float
    task: str
    prompt_digest: str


@dataclass(frozen=True)
class CameraReport:
    """What a camera uses: its task and that task's prompt (None if the task is not served any more).

    rate: of every frame, None where rate control or the edge's default decides; target_kbps: the bitrate that
    rate control keeps to, if any; chosen: the camera was told, and does not just do as the edge is set;
    pinned: it keeps to this prompt whichever is active; since: unix seconds at which it was told; etag: for
    If-Match, without quotes.
    """

    camera: str
    task: str
    prompt_digest: str | None
    rate: float | None
    target_kbps: float | None
    chosen: bool
    pinned: bool
    since: float | None
    last_frame: LastFrame | None
    etag: str


@dataclass(frozen=True)
class CloudReport:
    """Where frames go, the connection's state in gRPC's words, and why no frames flow (empty if they do).

    last_error: why a stream could not be opened or ended last; clock_offset_s: seconds that the cloud's clock
    is ahead of this one, None before the first stream.
    """

    target: str
    state: str
    note: str
    last_error: str
    clock_offset_s: float | None


@dataclass(frozen=True)
class SpoolReport:
    """Frames on disk, bytes of their bitstreams, how long the oldest waits, what is wrong with the file."""

    frames: int
    num_bytes: int
    oldest_s: float
    note: str


@dataclass(frozen=True)
class Readiness:
    """Whether frames are taken; cloud and spool are for information: an edge without a cloud is ready."""

    ready: bool
    device: str
    pack: str
    codec_digest: str
    engine: str
    tasks: tuple[str, ...]
    cloud: CloudReport
    spool: SpoolReport

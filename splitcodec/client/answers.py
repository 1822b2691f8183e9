"""What the two services answer, as types. Sizes in pixels, times in seconds since 1970, digests in hex."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from splitcodec.tasks import Detection, Detections, TaskAnswer


@dataclass(frozen=True)
class Timings:
    """Seconds. edge and cloud: by stage, computing only; round_trip: from sending to the cloud's answer."""

    edge: dict[str, float] = field(default_factory=dict)
    cloud: dict[str, float] = field(default_factory=dict)
    round_trip: float | None = None
    total: float | None = None


@dataclass(frozen=True)
class FrameReport:
    """One frame that an edge took, and its result.

    num_bytes: of the bitstream that was sent; bpp: its bits per source pixel; rate: in steps of 1/256;
    answer: boxes in source pixels, a class map, class scores, or UnknownAnswer.
    """

    id: str
    device: str
    camera: str
    seq: int
    task: str
    capture_time: float
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
    answer: TaskAnswer
    state: Literal["answered"] = "answered"

    @property
    def detections(self) -> tuple[Detection, ...] | None:
        """The boxes, if the task finds any."""
        return detections_in(self.answer)


def detections_in(answer: TaskAnswer | None) -> tuple[Detection, ...] | None:
    """The boxes of an answer that has any."""
    return answer.detections if isinstance(answer, Detections) else None


@dataclass(frozen=True)
class FrameTicket:
    """A frame without a result so far; `id` asks for it later.

    state: spooled (on the edge's disk, waits for the cloud), sent (on its way), dropped (by a limit of the
    spool), quarantined (it will not be sent any more) or settled (it was answered before, and only the cloud
    has its result); reason: why, in words.
    """

    id: str
    device: str
    camera: str
    seq: int
    state: Literal["spooled", "sent", "dropped", "quarantined", "settled"]
    reason: str = ""

    @property
    def may_be_answered(self) -> bool:
        """False: it was given up, or answered before."""
        return self.state in ("spooled", "sent")


@dataclass(frozen=True)
class DeadLetter:
    """A frame that an edge set aside; task: "" where it is not known; reason: why, in words.

    num_bytes: of its bitstream, 0 if that had to make room; replayable: it is whole, and can be sent again.
    """

    id: str
    device: str
    camera: str
    seq: int
    task: str
    reason: str
    num_bytes: int
    replayable: bool


@dataclass(frozen=True)
class Quarantine:
    """The last frames that an edge set aside, newest first, and how many there are in all."""

    total: int
    frames: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Replay:
    """Ids of frames that wait for the cloud again, and how many more of those asked for can."""

    replayed: tuple[str, ...]
    left: int


@dataclass(frozen=True)
class EdgePrompt:
    """One live prompt of an edge, and the rates a frame may ask for: 0 (fewest bytes) to max_rate.

    state: warm, active or draining (retired, but frames in work hold it); leases: such frames.
    """

    task: str
    prompt_digest: str
    codec_digest: str
    active: bool
    max_rate: float
    default_rate: float
    network_height: int
    network_width: int
    labels: tuple[str, ...]
    state: str = ""
    leases: int = 0


@dataclass(frozen=True)
class LastFrame:
    """The newest coded frame of a camera; time: of its capture."""

    id: str
    time: float
    task: str
    prompt_digest: str


@dataclass(frozen=True)
class CameraPrompt:
    """What frames of a camera that name no task or rate are encoded with.

    prompt_digest: of its task's active prompt, or of the one it is pinned to; rate None: rate control or the
    edge's default decides; chosen: this camera was told so, by `set_prompt`, at the time `since`; etag: for
    `if_match`.
    """

    camera: str
    task: str
    prompt_digest: str | None
    rate: float | None
    target_kbps: float | None
    chosen: bool
    pinned: bool = False
    since: float | None = None
    last_frame: LastFrame | None = None
    etag: str = ""


@dataclass(frozen=True)
class CloudState:
    """Where an edge sends frames; state: of the connection, in gRPC's words; note: why no frames flow.

    last_error: why a stream ended last; clock_offset_s: of the cloud's clock against the edge's, if known.
    """

    target: str
    state: str
    note: str = ""
    last_error: str = ""
    clock_offset_s: float | None = None


@dataclass(frozen=True)
class SpoolState:
    """Frames on the edge's disk, bytes of their bitstreams, seconds the oldest waits, what is wrong."""

    frames: int
    num_bytes: int
    oldest_s: float
    note: str = ""


@dataclass(frozen=True)
class Readiness:
    """Whether an edge takes frames; one without a cloud is still ready."""

    ready: bool
    device: str
    pack: str
    codec_digest: str
    engine: str
    tasks: tuple[str, ...]
    cloud: CloudState
    spool: SpoolState


@dataclass(frozen=True)
class StoredResult:
    """One frame's result as the cloud keeps it.

    (device, camera, seq) names the frame for ever; cursor: where it stands in this cloud's log, for `watch`;
    answer: None where it was asked to be left out.
    """

    device: str
    camera: str
    seq: int
    cursor: int
    task: str
    answer: TaskAnswer | None
    capture_time: float
    received_time: float
    finished_time: float
    num_bytes: int
    rate: float
    prompt_digest: str
    codec_digest: str
    source_height: int
    source_width: int
    network_height: int
    network_width: int
    stage_seconds: dict[str, float]

    @property
    def detections(self) -> tuple[Detection, ...] | None:
        """The boxes, if the task finds any."""
        return detections_in(self.answer)


@dataclass(frozen=True)
class PromptRecord:
    """The state of a prompt: staged, verified, warm, active, draining, retired or failed, with the reason."""

    task: str
    prompt_digest: str
    state: str
    since: float
    reason: str = ""


@dataclass(frozen=True)
class DevicePrompts:
    """What a device that follows a cloud's prompts said of its own, at the time `told`."""

    device: str
    codec_digest: str
    records: tuple[PromptRecord, ...]
    told: float

    def state_of(self, prompt_digest: str) -> PromptRecord | None:
        """Of one prompt; None if the device did not name it."""
        return next((one for one in self.records if one.prompt_digest == prompt_digest), None)


@dataclass(frozen=True)
class CloudPrompt:
    """A prompt the cloud can decode; rates run from 0 to max_rate.

    input_height, input_width: pixels of its largest canvas; a frame's own is in its result.
    active: edges should use it for its task; published: it came while the cloud ran, not with the pack.
    """

    task: str
    pack: str
    codec_digest: str
    prompt_digest: str
    max_rate: int
    input_height: int
    input_width: int
    labels: tuple[str, ...]
    active: bool = True
    published: bool = False

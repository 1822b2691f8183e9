"""Settings of the edge service: flags, SPLITCODEC_EDGE_* variables, a file in TOML, the defaults below.

Frozen; a bad value or an unsafe combination fails at construction.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from edge.spool_policy import Policy, SpoolLimits
from splitcodec.picture import PILLOW_MAX_PIXELS, PictureLimits
from splitcodec.service import is_loopback
from splitcodec.service_settings import ServiceSettings, read_settings, user_folder
from splitcodec.wire.names import NAME_PATTERN, NAME_REGEX

_BETWEEN_SOURCES = re.compile(rf"\n|,(?=(?:{NAME_REGEX}=)?(?:rtsps?|v4l2|file|folder):)")
"""A new line, or a comma with a source behind it: a URL may hold commas of its own."""
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class CameraGoal(BaseModel):
    """What rate control aims at for one camera; None: no target, frames keep the rate they ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_kbps: float | None = Field(None, gt=0, le=1e6)
    result_deadline_s: float = Field(1.0, gt=0, le=600)


def default_state_dir() -> Path:
    """$XDG_STATE_HOME/splitcodec-edge, by default under ~/.local/state."""
    return user_folder("XDG_STATE_HOME", ".local/state", "splitcodec-edge", "state_dir")


def default_threads() -> int:
    """Two, or one on a single core: the nano head gains little from more."""
    return min(2, os.cpu_count() or 1)


class EdgeSettings(ServiceSettings):
    """Takes pictures and sends their compressed features to a cloud.

    Every flag can also be given as SPLITCODEC_EDGE_<NAME> in the environment, or in the file of --config.
    """

    model_config = SettingsConfigDict(env_prefix="SPLITCODEC_EDGE_", cli_prog_name="splitcodec-edge")

    host: str = Field("127.0.0.1", description="address the HTTP server binds")
    port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    cloud_target: str = Field("127.0.0.1:50051", min_length=1, description="host:port of the cloud service")
    use_proxy: bool = Field(
        False, description="reach a cloud here or in a private network through the proxy of the environment"
    )
    pack: str = Field("default", min_length=1, description="pack to encode with, by name or folder")
    device: Name | None = Field(
        None, description="name of this device; by default host name and a random part, kept"
    )
    state_dir: Path = Field(
        default_factory=default_state_dir, description="folder for the device name, counters and the spool"
    )

    task: str = Field("detect", description="task of frames that name none")
    rate: float | None = Field(None, ge=0, description="rate of frames that name none; by default mid-range")
    target_kbps: float | None = Field(
        None, gt=0, le=1e6, description="bitrate that each camera keeps to; by default frames keep their rate"
    )
    result_deadline_s: float = Field(
        1.0, gt=0, le=600, description="seconds from capture to result that rate control aims at"
    )
    camera_goals: dict[Name, CameraGoal] = Field(
        default_factory=dict,
        description='cameras with goals of their own: {"door": {"target_kbps": 200, "result_deadline_s": 2}}',
    )
    over_target: Literal["spool", "thin"] = Field(
        "spool", description="when even rate 0 is too much: keep every frame and queue, or leave frames out"
    )
    hold: Literal["on", "off"] = Field(
        "off", description="send only the cells of a picture that changed; each frame goes to disk first"
    )
    key_interval_s: float = Field(
        10.0, gt=0, le=600, description="seconds from one whole frame of such a camera to the next"
    )
    engine: str = Field("auto", description="inference engine of the float graphs; see `splitcodec doctor`")
    threads: int = Field(default_factory=default_threads, ge=1, le=256, description="threads of each graph")

    deadline_s: float = Field(5.0, gt=0, le=600, description="seconds the cloud gets to answer; then 202")
    upload_timeout_s: float = Field(
        15.0, gt=0, le=600, description="seconds a client gets to send one picture"
    )
    max_picture_bytes: int = Field(16 * 2**20, ge=1, le=2**28, description="bytes of one picture")
    max_upload_bytes: int = Field(
        64 * 2**20, ge=1, le=2**34, description="bytes of all pictures together while they arrive"
    )
    max_picture_pixels: int = Field(
        25_000_000, ge=1, le=PILLOW_MAX_PIXELS, description="pixels of one picture"
    )
    max_pending_frames: int = Field(16, ge=1, le=10_000, description="frames in work before more are refused")
    max_cameras: int = Field(
        64,
        ge=1,
        le=10_000,
        description="cameras served, each with its own metric series, from a picture to a day of silence",
    )
    source: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        repr=False,  # a URL may hold a password
        description="cameras this edge reads: [NAME=]rtsp://..., v4l2:DEVICE, file:VIDEO or folder:FOLDER; "
        "the flag may be repeated, the variable has commas or new lines between them",
    )
    source_fps: float = Field(
        2.0, gt=0, le=240, description="pictures per second taken from each of them at most"
    )
    source_min_change: float = Field(
        0.0,
        ge=0,
        le=255,
        description="leave out pictures of them that differ less than this, in grey levels of 255, in every "
        "8x8 block of 64x48 points, from the last one sent; one a minute is sent all the same; 0 sends all",
    )
    camera_min_change: dict[Name, Annotated[float, Field(ge=0, le=255)]] = Field(
        default_factory=dict, description='cameras with a source_min_change of their own: {"door": 6}'
    )
    source_timeout_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="seconds a camera may be silent, then its reader is killed and started anew",
    )
    kept_frames: int = Field(
        512, ge=1, le=1_000_000, description="results kept in memory, oldest dropped first"
    )
    kept_picture_bytes: int = Field(
        32 * 2**20, ge=0, le=2**34, description="bytes of pictures kept for overlays"
    )
    spool_bytes: int = Field(
        2**30, ge=2**16, le=2**50, description="bytes of disk for frames that wait for the cloud"
    )
    spool_days: float = Field(
        7.0, gt=0, le=10_000, description="days of running time until a waiting frame is dropped"
    )
    spool_policy: Policy = Field(
        "reject", description="when the spool is full: reject new frames, drop-oldest, or thin the old ones"
    )
    spool_keep_every: int = Field(
        2, ge=2, le=1000, description="thin keeps every n-th frame of a camera; those with detections go last"
    )
    follow_cloud_prompts: bool = Field(
        True, description="use the prompts that the cloud activates, fetched from it when they are new"
    )
    max_prompt_bytes: int = Field(64 * 2**20, ge=1024, le=2**30, description="bytes of one prompt pack")
    kept_prompts: int = Field(
        4, ge=0, le=1000, description="prompts that came and that no task uses any more, kept for a roll-back"
    )
    refusal_patience_s: float = Field(
        86_400.0,
        ge=0,
        le=1e7,
        description="seconds a frame waits while the cloud refuses its codec, prompt or device",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="where traces of frames go: http://HOST:4317 (OTLP over gRPC); by default nowhere",
    )
    trace_share: float = Field(0.01, ge=0, le=1, description="share of the frames that are traced")
    shutdown_grace_s: int = Field(
        10, ge=0, le=600, description="seconds to deliver what is owed after SIGTERM"
    )

    tls_cert: Path | None = Field(
        None, description="PEM certificate chain of the HTTP server; re-read on change"
    )
    tls_key: Path | None = Field(None, description="PEM private key of the HTTP server")
    tls_client_ca: Path | None = Field(
        None, description="PEM authorities whose clients are let in (mutual TLS)"
    )
    health_cert: Path | None = Field(
        None,
        description="PEM certificate chain of health checks under mutual TLS; tls_cert without it",
    )
    health_key: Path | None = Field(None, description="PEM private key for health_cert")
    cloud_ca: Path | None = Field(None, description="PEM authorities the cloud's certificate must come from")
    cloud_cert: Path | None = Field(None, description="PEM certificate chain this edge shows to the cloud")
    cloud_key: Path | None = Field(None, description="PEM private key for cloud_cert")
    cloud_token_file: Path | None = Field(
        None, description="file with the bearer token this edge sends to the cloud; read for every connection"
    )
    insecure: bool = Field(False, description="allow public addresses that not everybody may use safely")
    token_file: Path | None = Field(
        None, description="bearer tokens that clients need (`splitcodec token`); re-read when it changes"
    )
    protect_metrics: bool = Field(False, description="ask for a token of scope metrics at /metrics")
    client_requests_per_s: float = Field(
        1000.0, gt=0, le=1e6, description="requests per second of one token or address; more are answered 429"
    )
    trusted_keys: Path | None = Field(
        None, description="folder of the public keys whose signatures on packs and prompt packs count"
    )
    require_signed_packs: bool = Field(False, description="refuse packs and prompt packs without a signature")

    @field_validator("source", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in _BETWEEN_SOURCES.split(value) if part.strip())
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> EdgeSettings:
        for name in ("tls", "cloud", "health"):
            cert, key = f"{name}_cert", f"{name}_key"
            if (getattr(self, cert) is None) != (getattr(self, key) is None):
                raise ValueError(f"{cert} and {key} go together; give both or neither")
        if self.max_upload_bytes < self.max_picture_bytes:
            raise ValueError(
                f"max_upload_bytes {self.max_upload_bytes} holds no picture of max_picture_bytes "
                f"{self.max_picture_bytes}; raise it to several times that"
            )
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.health_cert is not None and self.tls_client_ca is None:
            raise ValueError("health_cert needs tls_client_ca")
        if self.cloud_cert is not None and self.cloud_ca is None:
            raise ValueError("cloud_cert needs cloud_ca")
        if self.protect_metrics and self.token_file is None:
            raise ValueError("protect_metrics needs token_file")
        if self.require_signed_packs and self.trusted_keys is None:
            raise ValueError("require_signed_packs needs trusted_keys")
        if not self.insecure:
            self._check_addresses()
        return self

    def _check_addresses(self) -> None:
        """ValueError for a public address without TLS, or where anybody would be let in."""
        asks = self.tls_client_ca is not None or self.token_file is not None
        if not is_loopback(self.host) and not (self.tls_cert is not None and asks):
            raise ValueError(
                f"host {self.host} can be reached from outside; set tls_cert and tls_key, and tls_client_ca "
                "or token_file; or bind a loopback address, or accept the risk with --insecure"
            )
        if not is_loopback(self.cloud_target.rpartition(":")[0]) and self.cloud_ca is None:
            raise ValueError(
                f"cloud_target {self.cloud_target} is another machine; set cloud_ca, "
                "or accept unencrypted frames with --insecure"
            )

    def goal_of(self, camera: str) -> CameraGoal:
        """What rate control aims at for a camera."""
        default = CameraGoal(target_kbps=self.target_kbps, result_deadline_s=self.result_deadline_s)
        return self.camera_goals.get(camera, default)

    @property
    def spool_limits(self) -> SpoolLimits:
        """How much the spool keeps, and what goes when that is too much."""
        return SpoolLimits(
            self.spool_bytes, self.spool_days * 86_400, self.spool_policy, self.spool_keep_every
        )

    @property
    def picture_limits(self) -> PictureLimits:
        """The caps of one picture."""
        return PictureLimits(self.max_picture_bytes, self.max_picture_pixels)


def load_settings(arguments: list[str]) -> EdgeSettings:
    """Settings from the command line, the environment and the file that `config` names.

    Raises SettingsError naming each bad setting, and SystemExit after --help and --version.
    """
    return read_settings(EdgeSettings, arguments)

"""Settings of the edge service: flags, then SPLITCODEC_EDGE_* variables, then the defaults below."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from splitcodec.errors import SettingsError
from splitcodec.picture import PILLOW_MAX_PIXELS, PictureLimits
from splitcodec.service import is_loopback

NAME_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
"""Devices and cameras; the alphabet of FrameKey in results.proto."""
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


def default_state_dir() -> Path:
    """$XDG_STATE_HOME/splitcodec-edge, by default under ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "splitcodec-edge"


def default_threads() -> int:
    """Two, or one on a single core: the nano head gains little from more."""
    return min(2, os.cpu_count() or 1)


class EdgeSettings(BaseSettings):
    """Frozen; a bad value or an unsafe combination fails at construction."""

    model_config = SettingsConfigDict(
        env_prefix="SPLITCODEC_EDGE_",
        frozen=True,
        extra="forbid",
        cli_prog_name="splitcodec-edge",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="address the HTTP server binds")
    port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    cloud_target: str = Field("127.0.0.1:50051", min_length=1, description="host:port of the cloud service")
    pack: str = Field("default", min_length=1, description="pack to encode with, by name or folder")
    device: Name | None = Field(
        None, description="name of this device; by default host name and a random part, kept"
    )
    state_dir: Path = Field(
        default_factory=default_state_dir, description="folder for the device name and counters"
    )

    task: str = Field("detect", description="task of frames that name none")
    rate: float | None = Field(None, ge=0, description="rate of frames that name none; by default mid-range")
    engine: str = Field("auto", description="inference engine of the float graphs; see `splitcodec doctor`")
    threads: int = Field(default_factory=default_threads, ge=1, le=256, description="threads of each graph")

    deadline_s: float = Field(5.0, gt=0, le=600, description="seconds the cloud gets to answer one frame")
    upload_timeout_s: float = Field(
        15.0, gt=0, le=600, description="seconds a client gets to send one picture"
    )
    max_picture_bytes: int = Field(16 * 2**20, ge=1, le=2**28, description="bytes of one picture")
    max_picture_pixels: int = Field(
        25_000_000, ge=1, le=PILLOW_MAX_PIXELS, description="pixels of one picture"
    )
    max_pending_frames: int = Field(16, ge=1, le=10_000, description="frames in work before more are refused")
    max_cameras: int = Field(
        64, ge=1, le=10_000, description="cameras served; each has its own metric series"
    )
    kept_frames: int = Field(
        512, ge=1, le=1_000_000, description="results kept in memory, oldest dropped first"
    )
    kept_picture_bytes: int = Field(
        32 * 2**20, ge=0, le=2**34, description="bytes of pictures kept for overlays"
    )
    shutdown_grace_s: int = Field(
        10, ge=0, le=600, description="seconds that running requests get after SIGTERM"
    )

    tls_cert: Path | None = Field(None, description="PEM certificate chain of the HTTP server")
    tls_key: Path | None = Field(None, description="PEM private key of the HTTP server")
    tls_client_ca: Path | None = Field(
        None, description="PEM authorities whose clients are let in (mutual TLS)"
    )
    cloud_ca: Path | None = Field(None, description="PEM authorities the cloud's certificate must come from")
    cloud_cert: Path | None = Field(None, description="PEM certificate chain this edge shows to the cloud")
    cloud_key: Path | None = Field(None, description="PEM private key for cloud_cert")
    insecure: bool = Field(False, description="allow public addresses without TLS and client certificates")

    @model_validator(mode="after")
    def _is_safe(self) -> EdgeSettings:
        for cert, key in (("tls_cert", "tls_key"), ("cloud_cert", "cloud_key")):
            if (getattr(self, cert) is None) != (getattr(self, key) is None):
                raise ValueError(f"{cert} and {key} go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.cloud_cert is not None and self.cloud_ca is None:
            raise ValueError("cloud_cert needs cloud_ca")
        if self.insecure:
            return self
        if not is_loopback(self.host) and self.tls_client_ca is None:
            raise ValueError(
                f"host {self.host} can be reached from outside; set tls_cert, tls_key and tls_client_ca, "
                "bind a loopback address, or accept the risk with --insecure"
            )
        if not is_loopback(self.cloud_target.rpartition(":")[0]) and self.cloud_ca is None:
            raise ValueError(
                f"cloud_target {self.cloud_target} is another machine; set cloud_ca, "
                "or accept unencrypted frames with --insecure"
            )
        return self

    @property
    def picture_limits(self) -> PictureLimits:
        """The caps of one picture."""
        return PictureLimits(self.max_picture_bytes, self.max_picture_pixels)


def load_settings(arguments: list[str]) -> EdgeSettings:
    """Settings from the command line and the environment.

    Raises SettingsError naming each bad setting, and SystemExit after --help.
    """
    try:
        return CliApp.run(EdgeSettings, cli_args=arguments, cli_exit_on_error=False)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"{problems}; see splitcodec-edge --help") from None
    except SourceError as error:
        raise SettingsError(f"{error}; see splitcodec-edge --help") from None

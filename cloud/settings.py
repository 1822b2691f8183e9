"""Settings of the cloud service: flags, then SPLITCODEC_CLOUD_* variables, then the defaults below.

Frozen; a bad value or an unsafe combination fails at construction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as CommandLineError

from splitcodec.errors import SettingsError
from splitcodec.service import is_loopback

Port = Annotated[int, Field(ge=0, le=65535)]


class CloudSettings(BaseSettings):
    """Serves task results for the feature bitstreams that edges send.

    Every flag can also be given as SPLITCODEC_CLOUD_<NAME> in the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPLITCODEC_CLOUD_",
        frozen=True,
        extra="forbid",
        cli_prog_name="splitcodec-cloud",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )

    host: str = Field("127.0.0.1", description="address the gRPC server binds")
    port: Port = Field(50051, description="gRPC port; 0 takes a free one")
    metrics_host: str = Field("127.0.0.1", description="address the /metrics server binds")
    metrics_port: Port = Field(9464, description="HTTP port of /metrics; 0 takes a free one")
    packs: Annotated[tuple[str, ...], NoDecode] = Field(
        ("default",), min_length=1, description="packs to serve, by name or folder, separated by commas"
    )
    data_dir: Path = Field(Path("splitcodec-cloud-data"), description="folder of the result database")
    engine: str = Field("auto", description="inference engine of the float graphs; see `splitcodec doctor`")
    threads: int = Field(
        0, ge=0, le=256, description="threads of each graph; 0 shares the cores among the workers"
    )
    workers: int = Field(2, ge=1, le=64, description="batches worked on at once")

    max_batch: int = Field(4, ge=1, le=256, description="frames decoded in one batch; a GPU likes more")
    batch_window_s: float = Field(0.0, ge=0, le=1, description="seconds a frame waits for others")
    max_pending_frames: int = Field(
        64, ge=1, le=100_000, description="frames pending before more are refused"
    )
    stream_in_flight: int = Field(16, ge=1, le=1000, description="frames in flight on one ingest stream")
    max_concurrent_streams: int = Field(256, ge=1, le=100_000, description="calls at once on one connection")

    score_threshold: float = Field(0.25, ge=0, le=1, description="detections below this score are dropped")
    max_detections: int = Field(100, ge=1, le=1000, description="detections kept per frame")

    retention_days: float = Field(7.0, gt=0, description="results older than this are deleted")
    retention_bytes: int = Field(2**30, ge=2**16, description="bytes of results kept; the oldest go first")
    retention_interval_s: float = Field(60.0, gt=0, description="seconds between two looks at the limits")

    tls_cert: Path | None = Field(None, description="PEM certificate chain; re-read when it changes")
    tls_key: Path | None = Field(None, description="PEM private key of the server")
    tls_client_ca: Path | None = Field(None, description="PEM authorities of the clients let in (mutual TLS)")
    insecure: bool = Field(False, description="allow a public address without TLS and client certificates")
    shutdown_grace_s: float = Field(10.0, ge=0, le=600, description="seconds running calls get after SIGTERM")

    @field_validator("packs", mode="before")
    @classmethod
    def _split_packs(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> CloudSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.insecure or self.tls_client_ca is not None:
            return self
        for name in ("host", "metrics_host"):
            address: str = getattr(self, name)
            if not is_loopback(address):
                raise ValueError(
                    f"{name} {address} can be reached from outside; set tls_cert, tls_key and tls_client_ca, "
                    "bind a loopback address, or accept the risk with insecure"
                )
        return self


def load_settings(arguments: list[str]) -> CloudSettings:
    """Settings from the command line and the environment.

    Raises SettingsError naming each bad setting, and SystemExit after --help.
    """
    try:
        return CliApp.run(CloudSettings, cli_args=arguments, cli_exit_on_error=False)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"{problems}; see splitcodec-cloud --help") from None
    except CommandLineError as error:
        raise SettingsError(f"{error}; see splitcodec-cloud --help") from None

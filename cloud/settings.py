"""Settings of the cloud service: flags, SPLITCODEC_CLOUD_* variables, a file in TOML, the defaults below.

Frozen; a bad value or an unsafe combination fails at construction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from splitcodec.service import is_loopback
from splitcodec.service_settings import ServiceSettings, read_settings, user_folder

Port = Annotated[int, Field(ge=0, le=65535)]
MAX_RETENTION_DAYS: Final = 36_500  # a century; four overflow the nanoseconds that SQLite can hold


def default_data_dir() -> Path:
    """$XDG_DATA_HOME/splitcodec-cloud, by default under ~/.local/share."""
    return user_folder("XDG_DATA_HOME", ".local/share", "splitcodec-cloud", "data_dir")


class CloudSettings(ServiceSettings):
    """Serves task results for the feature bitstreams that edges send.

    Every flag can also be given as SPLITCODEC_CLOUD_<NAME> in the environment, or in the file of --config.
    """

    model_config = SettingsConfigDict(env_prefix="SPLITCODEC_CLOUD_", cli_prog_name="splitcodec-cloud")

    host: str = Field("127.0.0.1", description="address the gRPC server binds")
    port: Port = Field(50051, description="gRPC port; 0 takes a free one")
    metrics_host: str = Field("127.0.0.1", description="address the /metrics server binds")
    metrics_port: Port = Field(9464, description="HTTP port of /metrics; 0 takes a free one")
    packs: Annotated[tuple[str, ...], NoDecode] = Field(
        ("default",), min_length=1, description="packs to serve, by name or folder, separated by commas"
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="folder of the result database")
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

    ray: str | None = Field(
        None, description="run the networks on Ray: `local`, `auto` (this machine's cluster) or host:port"
    )
    ray_replicas: int = Field(1, ge=1, le=1000, description="least copies of each decoder and tail on Ray")
    ray_max_replicas: int = Field(4, ge=1, le=1000, description="most copies of each; load decides")
    ray_cpus: float = Field(1.0, ge=0, le=256, description="cores that Ray keeps for each copy")
    ray_gpus: float = Field(0.0, ge=0, le=16, description="GPUs, or share of one, for each copy")
    ray_patience_s: float = Field(
        30.0, gt=0, le=3600, description="seconds a frame is tried again while copies are lost"
    )

    score_threshold: float = Field(0.25, ge=0, le=1, description="detections below this score are dropped")
    max_detections: int = Field(100, ge=1, le=1000, description="detections kept per frame")
    top_classes: int = Field(5, ge=1, le=1000, description="classes a classification names")

    max_prompt_bytes: int = Field(
        64 * 2**20, ge=1024, le=2**30, description="bytes of one published prompt pack"
    )
    max_published_prompts: int = Field(
        32, ge=0, le=1000, description="published prompts held before more are refused"
    )
    prompt_drain_s: float = Field(
        7 * 86400.0,
        ge=0,
        le=366 * 86400,
        description="seconds a retired prompt still answers frames, for edges and spools that hold some",
    )
    publish_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="seconds a prompt pack may take to arrive"
    )

    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="where spans of traced frames go: http://HOST:4317 (OTLP over gRPC); by default nowhere",
    )

    retention_days: float = Field(
        7.0,
        gt=0,
        le=MAX_RETENTION_DAYS,
        allow_inf_nan=False,
        description="results older than this are deleted",
    )
    retention_bytes: int = Field(2**30, ge=2**16, description="bytes of results kept; the oldest go first")
    state_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="memory for what frames of still cameras build on; a state is made again where it went",
    )
    retention_interval_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="seconds between two looks at the limits",
    )

    tls_cert: Path | None = Field(None, description="PEM certificate chain; re-read when it changes")
    tls_key: Path | None = Field(None, description="PEM private key of the server")
    tls_client_ca: Path | None = Field(None, description="PEM authorities of the clients let in (mutual TLS)")
    health_cert: Path | None = Field(
        None,
        description="PEM certificate chain of health checks under mutual TLS; tls_cert without it",
    )
    health_key: Path | None = Field(None, description="PEM private key for health_cert")
    insecure: bool = Field(False, description="allow a public address that not everybody may use safely")
    token_file: Path | None = Field(
        None, description="bearer tokens that callers need (`splitcodec token`); re-read when it changes"
    )
    protect_metrics: bool = Field(False, description="ask for a token of scope metrics at /metrics")
    trusted_keys: Path | None = Field(
        None, description="folder of the public keys whose signatures on packs and prompt packs count"
    )
    require_signed_packs: bool = Field(False, description="refuse packs and prompt packs without a signature")

    device_frames_per_s: float = Field(
        2000.0, gt=0, le=1e6, description="frames per second of one device; streams are slowed, calls refused"
    )
    device_streams: int = Field(4, ge=1, le=1000, description="ingest streams of one device at once")
    max_streams: int = Field(1000, ge=1, le=100_000, description="ingest streams at once")
    max_calls: int = Field(
        2000, ge=1, le=1_000_000, description="calls at once over all connections, health aside"
    )
    shutdown_grace_s: float = Field(10.0, ge=0, le=600, description="seconds running calls get after SIGTERM")

    @field_validator("packs", mode="before")
    @classmethod
    def _split_packs(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> CloudSettings:
        for cert, key in (("tls_cert", "tls_key"), ("health_cert", "health_key")):
            if (getattr(self, cert) is None) != (getattr(self, key) is None):
                raise ValueError(f"{cert} and {key} go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.health_cert is not None and self.tls_client_ca is None:
            raise ValueError("health_cert needs tls_client_ca")
        if self.protect_metrics and self.token_file is None:
            raise ValueError("protect_metrics needs token_file")
        if self.require_signed_packs and self.trusted_keys is None:
            raise ValueError("require_signed_packs needs trusted_keys")
        if not self.insecure:
            self._check_address("host", self.token_file is not None)
            self._check_address("metrics_host", self.protect_metrics)
        return self

    def _check_address(self, name: str, asks_for_tokens: bool) -> None:
        """ValueError for a public address without TLS, or where anybody would be let in."""
        address: str = getattr(self, name)
        if is_loopback(address) or (self.tls_cert and (self.tls_client_ca or asks_for_tokens)):
            return
        tokens = "token_file and protect_metrics" if name == "metrics_host" else "token_file"
        raise ValueError(
            f"{name} {address} can be reached from outside; set tls_cert and tls_key, and tls_client_ca or "
            f"{tokens}; or bind a loopback address, or accept the risk with insecure"
        )


def load_settings(arguments: list[str]) -> CloudSettings:
    """Settings from the command line, the environment and the file that `config` names.

    Raises SettingsError naming each bad setting, and SystemExit after --help and --version.
    """
    return read_settings(CloudSettings, arguments)

"""`splitcodec-edge`: load the pack, connect to the cloud, serve HTTP until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from uvicorn.server import HANDLED_SIGNALS

from edge.access import Gate
from edge.app import create_app
from edge.codec import Codec, TaskInput
from edge.follow import GrpcPromptSource, PromptFollower, following
from edge.heads import TimedHeads
from edge.metrics import EdgeMetrics
from edge.pipeline import EdgePipeline, open_pipeline
from edge.settings import EdgeSettings, load_settings
from edge.sources.fleet import checked_sources, reading_sources
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.certificates import ServerTls, export_expiry
from splitcodec.codec import FeatureEncoder
from splitcodec.errors import SettingsError, SplitcodecError
from splitcodec.packs import load_pack
from splitcodec.packs.rates import rate_points
from splitcodec.prompts import PromptStore
from splitcodec.service import log_to_stderr
from splitcodec.signing.memory import VersionMemory
from splitcodec.signing.trust import TrustStore
from splitcodec.threads import LeavingThreads, ending_without_hung_threads
from splitcodec.throttle import Throttle
from splitcodec.tokens import TokenBook
from splitcodec.tracing import open_tracing

log = logging.getLogger("edge")

BAD_START = 2  # exit status
MAX_CONNECTIONS = 256  # HTTP connections at once; more are answered 503
BACKLOG = 128
CLOSE_S = 5  # for requests that still run when the drain is over; nothing keeps them waiting any more


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; exits 2 if the service cannot start."""
    log_to_stderr()
    with ending_without_hung_threads():
        try:
            run(load_settings(sys.argv[1:] if arguments is None else arguments))
        except SplitcodecError as error:
            log.error("%s: %s", type(error).__name__, error)
            sys.exit(BAD_START)


def run(settings: EdgeSettings) -> None:
    """Open what the service needs and serve until a signal comes."""
    tls = server_tls(settings)
    with closing(EdgeState(settings.state_dir, settings.device)) as state:
        trust = open_trust(settings)
        codec = build_codec(settings, trust)
        with listen(settings) as listener:
            asyncio.run(serve(settings, codec, state, listener, tls, trust))


def open_trust(settings: EdgeSettings) -> TrustStore | None:
    """Whose signatures count, and what ran here before; None where nobody asks. Raises SettingsError."""
    if settings.trusted_keys is None:
        return None
    memory = VersionMemory(settings.state_dir / "signed_versions.json")
    return TrustStore(settings.trusted_keys, memory, settings.require_signed_packs)


def build_codec(settings: EdgeSettings, trust: TrustStore | None = None) -> Codec:
    """Load the pack, open its sessions, and compress the largest grey canvas of each task to warm them up."""
    pack = load_pack(settings.pack, trust)
    encoder = FeatureEncoder(pack, engine=settings.engine, threads=settings.threads)
    max_rate = float(pack.manifest.codec.rate_points - 1)
    tasks = {
        name: TaskInput(section.input, section.labels, rate_points(pack.manifest, name))
        for name, section in pack.manifest.tasks.items()
    }
    for name, task in tasks.items():
        size = (task.convention.height, task.convention.width)
        encoder.compress(np.full((*size, 3), task.convention.fill, np.uint8), pack.prompt(name), 0.0, size)
    if trust is not None:
        trust.remember(pack.signer)
    return Codec(
        pack=pack.name,
        codec_digest=pack.codec_digest,
        engine=encoder.sessions[0].engine,
        max_rate=max_rate,
        section=pack.manifest.codec,
        encoder=encoder,
        prompts=PromptStore(pack.prompts.values()),
        inputs={pack.prompt(name).digest: task for name, task in tasks.items()},
        holds=pack.holds,
    )


def listen(settings: EdgeSettings) -> socket.socket:
    """A listening socket; SettingsError if the address cannot be bound."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
        # asyncio sets this only on sockets whose protocol number is TCP's, which accepted ones of this kind
        # lack; without it the body of every answer on a kept connection waits 40 ms for the client's ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another host or port (0 takes a free one)"
        ) from error


def server_tls(settings: EdgeSettings) -> ServerTls | None:
    """TLS of the HTTP server, None without. SettingsError: a file cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


async def serve(
    settings: EdgeSettings,
    codec: Codec,
    state: EdgeState,
    listener: socket.socket,
    tls: ServerTls | None,
    trust: TrustStore | None,
) -> None:
    """Serve on the socket until a signal comes, then finish what is running."""
    asyncio.get_running_loop().set_default_executor(LeavingThreads())
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = EdgeMetrics(registry)
    pack_ends = trust.pack_ends if trust is not None else None
    export_expiry(metrics.certificate_expiry, certificates(settings), pack_ends)
    async with AsyncExitStack() as stack:
        tracing = open_tracing("splitcodec-edge", settings.otlp_endpoint, settings.trace_share)
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        uplink = GrpcUplink(settings, tracing)
        stack.push_async_callback(uplink.close)
        pipeline = await stack.enter_async_context(
            open_pipeline(settings, codec, uplink, state, metrics, trust, tracing)
        )
        if settings.follow_cloud_prompts:
            follower = PromptFollower(
                pipeline.prompts,
                GrpcPromptSource(uplink.link),
                state.device,
                bytes.fromhex(codec.codec_digest)[:8],
                settings.max_prompt_bytes,
            )
            await stack.enter_async_context(following(follower, metrics.background_failures))
        await stack.enter_async_context(reading_sources(pipeline, checked_sources(settings)))
        server = EdgeServer(http_config(settings, pipeline, tls), pipeline, settings.shutdown_grace_s)
        for number in HANDLED_SIGNALS:  # also before uvicorn takes them, and after it gave them back
            signal.signal(number, server.handle_exit)
        await server.serve(sockets=[listener])


class EdgeServer(uvicorn.Server):
    """uvicorn, except that the first signal drains the pipeline before the socket closes."""

    def __init__(self, config: uvicorn.Config, pipeline: EdgePipeline, drain_s: float) -> None:
        """drain_s: how long the drain may take."""
        super().__init__(config)
        self._pipeline = pipeline
        self._drain_s = drain_s
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens once that is so: connections are taken, and a signal stops it."""
        await super().startup(sockets=sockets)
        settings = self._pipeline.settings
        for listener in sockets or ():
            port = listener.getsockname()[1]
            print(json.dumps({"event": "listening", "http_port": port}), flush=True)
            where = (settings.host, port, settings.cloud_target, self._pipeline.readiness().pack)
            log.info("listening on %s:%d, cloud %s, pack %s", *where)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not ready at once, then drain; a second signal ends it now."""
        if self._draining is None:
            self._loop.call_soon_threadsafe(self._start_draining)
        else:
            self.should_exit = True

    def _start_draining(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._pipeline.drain(self._drain_s)
        finally:
            self.should_exit = True


def certificates(settings: EdgeSettings) -> dict[str, Path | None]:
    """The certificate files in use, by their use."""
    return {
        "server": settings.tls_cert,
        "client_ca": settings.tls_client_ca,
        "uplink": settings.cloud_cert,
        "cloud_ca": settings.cloud_ca,
    }


def guarded_app(settings: EdgeSettings, pipeline: EdgePipeline) -> Gate:
    """The application behind tokens and limits. SettingsError: the token file cannot be used."""
    book = None if settings.token_file is None else TokenBook(settings.token_file)
    rate = settings.client_requests_per_s
    refused = pipeline.metrics.access_refused
    return Gate(
        create_app(pipeline), book, Throttle(rate, max(1.0, 2 * rate)), refused, settings.protect_metrics
    )


def http_config(settings: EdgeSettings, pipeline: EdgePipeline, tls: ServerTls | None) -> uvicorn.Config:
    """How the HTTP server runs; logs go to the root logger."""
    config = uvicorn.Config(
        guarded_app(settings, pipeline),
        http=TimedHeads,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # callers would choose the address that they are counted under
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=CLOSE_S,
    )
    config.load()
    config.ssl = tls.context if tls is not None else None
    return config


if __name__ == "__main__":
    main()

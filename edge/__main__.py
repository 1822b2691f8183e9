"""`splitcodec-edge`: load the pack, connect to the cloud, serve HTTP until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import ssl
import sys
from contextlib import AsyncExitStack, closing

import numpy as np
import uvicorn
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from edge.app import create_app
from edge.metrics import EdgeMetrics
from edge.pipeline import Codec, EdgePipeline, TaskInput
from edge.settings import EdgeSettings, load_settings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.codec import FeatureEncoder
from splitcodec.errors import SettingsError, SplitcodecError
from splitcodec.packs import load_pack
from splitcodec.prompts import PromptStore
from splitcodec.service import log_to_stderr

log = logging.getLogger("edge")

BAD_START = 2  # exit status
MAX_CONNECTIONS = 256  # HTTP connections at once; more are answered 503
BACKLOG = 128


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; exits 2 if the service cannot start."""
    log_to_stderr()
    try:
        settings = load_settings(sys.argv[1:] if arguments is None else arguments)
        check_tls_files(settings)
        with closing(EdgeState(settings.state_dir, settings.device)) as state:
            codec = build_codec(settings)
            with listen(settings) as listener:
                asyncio.run(serve(settings, codec, state, listener))
    except SplitcodecError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(BAD_START)


def build_codec(settings: EdgeSettings) -> Codec:
    """Load the pack, open its sessions, and compress one grey canvas per task to warm them up."""
    pack = load_pack(settings.pack)
    encoder = FeatureEncoder(pack, engine=settings.engine, threads=settings.threads)
    tasks = {name: TaskInput(section.input, section.labels) for name, section in pack.manifest.tasks.items()}
    for name, task in tasks.items():
        size = (task.convention.height, task.convention.width)
        encoder.compress(np.full((*size, 3), task.convention.fill, np.uint8), pack.prompt(name), 0.0, size)
    return Codec(
        pack=pack.name,
        codec_digest=pack.codec_digest,
        engine=encoder.sessions[0].engine,
        max_rate=float(pack.manifest.codec.rate_points - 1),
        tasks=tasks,
        encoder=encoder,
        prompts=PromptStore(pack.prompts.values()),
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


def check_tls_files(settings: EdgeSettings) -> None:
    """SettingsError: a TLS file of the HTTP server cannot be used."""
    if settings.tls_cert is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError(f"the TLS files cannot be read ({error}); check the tls_* settings") from error


async def serve(settings: EdgeSettings, codec: Codec, state: EdgeState, listener: socket.socket) -> None:
    """Serve on the socket until a signal comes, then finish what is running."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    async with AsyncExitStack() as stack:
        uplink = GrpcUplink(settings)
        stack.push_async_callback(uplink.close)
        pipeline = EdgePipeline(settings, codec, uplink, state, EdgeMetrics(registry))
        stack.callback(pipeline.close)
        server = uvicorn.Server(http_config(settings, pipeline))
        _ignore_signals_outside_the_server()
        port = listener.getsockname()[1]
        print(json.dumps({"event": "listening", "http_port": port}), flush=True)
        log.info(
            "listening on %s:%d, cloud %s, pack %s", settings.host, port, settings.cloud_target, codec.pack
        )
        await server.serve(sockets=[listener])


def http_config(settings: EdgeSettings, pipeline: EdgePipeline) -> uvicorn.Config:
    """How the HTTP server runs; logs go to the root logger."""
    return uvicorn.Config(
        create_app(pipeline),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=str(settings.tls_client_ca) if settings.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    )


def _ignore_signals_outside_the_server() -> None:
    """uvicorn raises a signal again once it has stopped; without this it would kill the clean-up."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    main()

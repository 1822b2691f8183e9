"""splitcodec-cloud: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from cloud.packs import DetectionLimits, PackRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings, load_settings
from splitcodec.errors import SplitcodecError
from splitcodec.packs import load_pack
from splitcodec.service import log_to_stderr

log = logging.getLogger("cloud")
BAD_START = 2  # exit status


def build_runner(settings: CloudSettings) -> PackRunner:
    """Load every pack and open its graphs. Raises PackError, PromptError, RuntimeUnavailable and others."""
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    packs = [load_pack(place) for place in settings.packs]
    limits = DetectionLimits(settings.score_threshold, settings.max_detections)
    return PackRunner(packs, settings.engine, threads, limits)


async def serve(settings: CloudSettings) -> None:
    """Serve, say where on stdout as one JSON line, and stop gracefully on the first signal."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = await asyncio.to_thread(build_runner, settings)
    async with CloudServer(settings, runner, registry) as server:
        ports = {"grpc_port": server.grpc_port, "metrics_port": server.metrics_port}
        print(json.dumps({"event": "listening", **ports}), flush=True)
        await stop.wait()
        log.info("stopping; running calls get %s s", settings.shutdown_grace_s)


def main() -> None:
    """Entry point of the console script; exits 2 when the service cannot start."""
    log_to_stderr()
    try:
        asyncio.run(serve(load_settings(sys.argv[1:])))
    except SplitcodecError as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(BAD_START)


if __name__ == "__main__":
    main()

"""splitcodec-cloud: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, closing

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from cloud.packs import PackRunner
from cloud.runner import FrameRunner
from cloud.server import CloudServer
from cloud.settings import CloudSettings, load_settings
from splitcodec.errors import RuntimeUnavailable, SplitcodecError
from splitcodec.packs import load_pack
from splitcodec.service import log_to_stderr
from splitcodec.signing.memory import VersionMemory
from splitcodec.signing.trust import TrustStore
from splitcodec.tasks import ResultLimits
from splitcodec.threads import LeavingThreads, ending_without_hung_threads, unless_stopped
from splitcodec.tracing import open_tracing

log = logging.getLogger("cloud")
BAD_START = 2  # exit status


def open_trust(settings: CloudSettings) -> TrustStore | None:
    """Whose signatures count, and what ran here before; None where nobody asks. Raises SettingsError."""
    if settings.trusted_keys is None:
        return None
    memory = VersionMemory(settings.data_dir / "signed_versions.json")
    return TrustStore(settings.trusted_keys, memory, settings.require_signed_packs)


def build_runner(settings: CloudSettings, at_end: ExitStack, trust: TrustStore | None = None) -> FrameRunner:
    """Load every pack and open its graphs; what must be undone at the end is left in `at_end`.

    Raises SignatureError, PackError, PromptError, RuntimeUnavailable and others.
    """
    if settings.ray is not None:
        if trust is not None:  # the cluster's machines check theirs against the digests of these
            trust.remember(*(load_pack(place, trust).signer for place in settings.packs))
        return at_end.enter_context(_on_ray(settings, settings.ray))
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    packs = [load_pack(place, trust) for place in settings.packs]
    limits = ResultLimits(
        score_threshold=settings.score_threshold,
        max_detections=settings.max_detections,
        top_classes=settings.top_classes,
    )
    runner = PackRunner(packs, settings.engine, threads, limits)
    if trust is not None:
        trust.remember(*(pack.signer for pack in packs))
    return runner


def _on_ray(settings: CloudSettings, address: str) -> AbstractContextManager[FrameRunner]:
    try:
        from cloud.ray_app import options_of
        from cloud.ray_runner import RayRunner
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise RuntimeUnavailable(
            f"--ray {address} needs Ray, which is not installed; install splitcodec[cloud,scale]"
        ) from None
    return closing(RayRunner(address, options_of(settings), settings.ray_patience_s))


async def serve(settings: CloudSettings) -> None:
    """Serve, say where on stdout as one JSON line, and stop gracefully on the first signal."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    stop = asyncio.Event()
    asyncio.get_running_loop().set_default_executor(LeavingThreads())
    _on_signals(stop.set)
    trust = open_trust(settings)
    tracing = open_tracing("splitcodec-cloud", settings.otlp_endpoint, share=1.0)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(asyncio.to_thread, tracing.close)
        at_end = ExitStack()
        opened.push_async_callback(asyncio.to_thread, at_end.close)
        building = asyncio.to_thread(build_runner, settings, at_end, trust)
        runner = await unless_stopped(stop, building)
        if runner is None:
            log.info("stopped before the packs were loaded")
            return
        _on_signals(stop.set)  # again: Ray put a handler of its own there, which aborts the process
        server = await opened.enter_async_context(CloudServer(settings, runner, registry, trust, tracing))
        ports = {"grpc_port": server.grpc_port, "metrics_port": server.metrics_port}
        print(json.dumps({"event": "listening", **ports}), flush=True)
        await stop.wait()
        log.info("stopping; running calls get %s s", settings.shutdown_grace_s)


def _on_signals(act: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


def main() -> None:
    """Entry point of the console script; exits 2 when the service cannot start."""
    log_to_stderr()
    with ending_without_hung_threads():
        try:
            asyncio.run(serve(load_settings(sys.argv[1:])))
        except SplitcodecError as error:
            log.error("%s: %s", type(error).__name__, error)
            sys.exit(BAD_START)


if __name__ == "__main__":
    main()

"""The cloud service as one object: gRPC server with health and reflection, result store, metrics."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from cloud.batching import Batcher, BatchLimits
from cloud.ingest import IngestServicer
from cloud.metrics import CloudMetrics, MetricsServer
from cloud.pipeline import Pipeline
from cloud.prompts import PromptsServicer
from cloud.result_log import ResultLog
from cloud.results import ResultsServicer
from cloud.runner import FrameRunner
from cloud.settings import CloudSettings
from cloud.store import ResultStore
from cloud.tls import server_credentials
from splitcodec.errors import SettingsError
from splitcodec.wire.options import server_options
from splitcodec.wire.v1 import ingest_pb2, prompts_pb2, results_pb2
from splitcodec.wire.v1.ingest_pb2_grpc import add_FeatureIngestServicer_to_server
from splitcodec.wire.v1.prompts_pb2_grpc import add_PromptsServicer_to_server
from splitcodec.wire.v1.results_pb2_grpc import add_ResultsServicer_to_server

log = logging.getLogger(__name__)

SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in ((ingest_pb2, "FeatureIngest"), (results_pb2, "Results"), (prompts_pb2, "Prompts"))
)


class CloudServer:
    """`async with CloudServer(settings, runner, registry) as server:` serves until the block ends."""

    def __init__(self, settings: CloudSettings, runner: FrameRunner, registry: CollectorRegistry) -> None:
        """Takes the networks as `runner` and registers its metrics with `registry`; opens nothing yet."""
        self._settings = settings
        self._runner = runner
        self._metrics = CloudMetrics(registry)
        self._stopping = asyncio.Event()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._opened = AsyncExitStack()
        self.grpc_port = 0
        self.metrics_port = 0

    async def __aenter__(self) -> CloudServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the store, bind both ports and serve. Raises SettingsError or StoreUnavailable."""
        try:
            await self._open()
        except BaseException:
            await self._opened.aclose()
            raise

    async def stop(self) -> None:
        """Not ready first; running calls get shutdown_grace_s seconds; then everything is closed."""
        await self._health.enter_graceful_shutdown()
        self._stopping.set()
        self._results.end_readers()
        await self._opened.aclose()

    async def _open(self) -> None:
        """Each part leaves its closing in `_opened`, which runs them in reverse."""
        settings = self._settings
        metrics_server = MetricsServer.start(settings, self._metrics.registry)
        self._opened.push_async_callback(asyncio.to_thread, metrics_server.stop)
        self.metrics_port = metrics_server.port
        self._results = ResultLog(ResultStore(settings.data_dir), self._metrics)
        self._opened.push_async_callback(self._results.stop)
        self._batcher = Batcher(self._runner.run, _batch_limits(settings), self._metrics.batch_size.observe)
        self._batcher.start()
        self._opened.push_async_callback(self._batcher.stop)
        retention = asyncio.create_task(
            self._results.retire_for_ever(
                settings.retention_days, settings.retention_bytes, settings.retention_interval_s
            )
        )
        self._opened.push_async_callback(_cancel, retention)
        server = self._build_grpc()
        self._opened.push_async_callback(server.stop, settings.shutdown_grace_s)
        self.grpc_port = self._bind(server)
        for prompt in self._runner.prompts():
            self._metrics.prompt_info.labels(prompt.task, prompt.prompt_digest.hex()).set(1)
        for service in SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await server.start()

    async def retire(self, max_age_days: float | None = None, max_bytes: int | None = None) -> int:
        """Hold the retention limits now, by default those of the settings; how many results went."""
        age = self._settings.retention_days if max_age_days is None else max_age_days
        size = self._settings.retention_bytes if max_bytes is None else max_bytes
        return await self._results.retire(age, size)

    def _build_grpc(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=server_options(self._settings.max_concurrent_streams),
            compression=grpc.Compression.NoCompression,  # bitstreams are entropy coded already
        )
        pipeline = Pipeline(self._runner, self._batcher, self._results, self._metrics)
        ingest = IngestServicer(pipeline, self._metrics, self._stopping, self._settings.stream_in_flight)
        add_FeatureIngestServicer_to_server(ingest, server)  # type: ignore[no-untyped-call]
        results = ResultsServicer(self._results, self._metrics)
        add_ResultsServicer_to_server(results, server)  # type: ignore[no-untyped-call]
        prompts = PromptsServicer(self._runner, self._metrics)
        add_PromptsServicer_to_server(prompts, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _bind(self, server: grpc.aio.Server) -> int:
        """Bind the gRPC port; the one that was chosen."""
        address = f"{self._settings.host}:{self._settings.port}"
        credentials = server_credentials(self._settings)
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"{address} cannot be bound: {error}; choose another port (0 takes a free one)"
            ) from error


def _batch_limits(settings: CloudSettings) -> BatchLimits:
    return BatchLimits(
        settings.max_batch, settings.batch_window_s, settings.max_pending_frames, settings.workers
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])

"""The cloud service as one object: gRPC server with health and reflection, result store, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from cloud.access import AccessInterceptor
from cloud.batching import Batcher, BatchLimits
from cloud.calls import CallLimit
from cloud.catalogue import PromptCatalogue
from cloud.chains import Chains
from cloud.devices import DeviceLimits
from cloud.draining import Draining
from cloud.giving_up import GivingUp
from cloud.ingest import IngestServicer
from cloud.metrics import CloudMetrics
from cloud.metrics_server import MetricsServer
from cloud.open_inference import OpenInferenceServicer
from cloud.pipeline import Pipeline
from cloud.prompts import PromptsServicer
from cloud.result_log import ResultLog
from cloud.results import ResultsServicer
from cloud.runner import FrameRunner, run_together
from cloud.settings import CloudSettings
from cloud.status import reasons
from cloud.store import ResultStore
from cloud.tls import server_credentials
from splitcodec.certificates import export_expiry
from splitcodec.errors import SettingsError
from splitcodec.packs.shelf import PromptShelf
from splitcodec.prompt_probation import FirstFrames
from splitcodec.service_metrics import start_at_zero
from splitcodec.signing.trust import TrustStore
from splitcodec.threads import LAST_PATIENCE_S
from splitcodec.tokens import TokenBook
from splitcodec.tracing import Tracing
from splitcodec.wire.options import server_options
from splitcodec.wire.v1 import ingest_pb2, open_inference_pb2, prompts_pb2, results_pb2
from splitcodec.wire.v1.ingest_pb2 import StreamOpened
from splitcodec.wire.v1.ingest_pb2_grpc import add_FeatureIngestServicer_to_server
from splitcodec.wire.v1.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from splitcodec.wire.v1.prompts_pb2_grpc import add_PromptsServicer_to_server
from splitcodec.wire.v1.results_pb2_grpc import add_ResultsServicer_to_server

log = logging.getLogger(__name__)

SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (ingest_pb2, "FeatureIngest"),
        (results_pb2, "Results"),
        (prompts_pb2, "Prompts"),
        (open_inference_pb2, "GRPCInferenceService"),
    )
)
MAX_WAITING_THREADS: Final = 64


class CloudServer:
    """`async with CloudServer(settings, runner, registry) as server:` serves until the block ends."""

    def __init__(
        self,
        settings: CloudSettings,
        runner: FrameRunner,
        registry: CollectorRegistry,
        trust: TrustStore | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Takes the networks as `runner` and registers its metrics with `registry`; opens nothing yet.

        trust: whose signatures count for published prompts; None where no signature is asked for. Raises
        SettingsError for an unusable token file.
        """
        self._trust = trust
        self._tracing = tracing or Tracing()
        self._settings = settings
        self._tokens = TokenBook(settings.token_file) if settings.token_file is not None else None
        self._runner = runner
        self._metrics = CloudMetrics(registry)
        start_at_zero(self._metrics.rejected, reasons())
        self._stopping = asyncio.Event()
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._opened = AsyncExitStack()
        self._ready = False
        self._grace_ends = 0.0
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
        """Not ready first; running calls get shutdown_grace_s seconds; then everything is closed.

        Work in a thread that still runs then gets LAST_PATIENCE_S more, and is left to itself.
        """
        self._ready = False
        self._grace_ends = time.monotonic() + self._settings.shutdown_grace_s
        await self._health.enter_graceful_shutdown()
        self._stopping.set()
        self._results.end_readers()
        self._catalogue.end_watchers()
        await self._opened.aclose()

    async def _open(self) -> None:
        """Each part leaves its closing in `_opened`, which runs them in reverse."""
        settings = self._settings
        metrics_server = MetricsServer.start(settings, self._metrics.registry, self._tokens, self._is_ready)
        self._opened.push_async_callback(asyncio.to_thread, metrics_server.stop)
        self.metrics_port = metrics_server.port
        self._results = ResultLog(ResultStore(settings.data_dir), self._metrics)
        self._opened.push_async_callback(self._results.stop)
        self._batcher = Batcher(
            run_together,
            _batch_limits(settings),
            self._metrics.batch_size.observe,
            self._metrics.background_failures,
        )
        self._batcher.start()
        self._opened.push_async_callback(self._stop_batcher)
        retention = asyncio.create_task(
            self._results.retire_for_ever(
                settings.retention_days, settings.retention_bytes, settings.retention_interval_s
            )
        )
        self._opened.push_async_callback(_cancel, retention)
        await self._open_catalogue()
        server = self._build_grpc()
        self._opened.push_async_callback(server.stop, settings.shutdown_grace_s)
        self.grpc_port = self._bind(server)
        for service in SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        self._ready = True

    async def _open_catalogue(self) -> None:
        """Prompts that were published before are served again before the first call is taken."""
        self._shelf = PromptShelf(self._settings.data_dir / "prompts")
        self._catalogue = PromptCatalogue(
            self._runner,
            self._shelf,
            self._metrics,
            self._settings.max_published_prompts,
            self._trust,
            Draining(self._settings.data_dir / "prompts", self._settings.prompt_drain_s),
        )
        self._metrics.prompt_leases.set_function(lambda: sum(one.leases for one in self._runner.prompts()))
        self._opened.push_async_callback(self._close_catalogue)
        await self._catalogue.open()

    async def _stop_batcher(self) -> None:
        await self._batcher.stop(self._patience_s())

    async def _close_catalogue(self) -> None:
        await self._catalogue.close(self._patience_s())

    def _patience_s(self) -> float:
        """Seconds that work in a thread gets from now on."""
        return max(LAST_PATIENCE_S, self._grace_ends - time.monotonic())

    def _is_ready(self) -> bool:
        return self._ready

    async def retire(self, max_age_days: float | None = None, max_bytes: int | None = None) -> int:
        """Hold the retention limits now, by default those of the settings; how many results went."""
        age = self._settings.retention_days if max_age_days is None else max_age_days
        size = self._settings.retention_bytes if max_bytes is None else max_bytes
        return await self._results.retire(age, size)

    def _build_grpc(self) -> grpc.aio.Server:
        interceptors: list[grpc.aio.ServerInterceptor] = []  # type: ignore[type-arg]  # generic in the stubs
        if self._tokens is not None:
            interceptors.append(AccessInterceptor(self._tokens, self._metrics))
        interceptors.append(CallLimit(self._settings.max_calls, self._metrics))
        server = grpc.aio.server(
            interceptors=interceptors,
            options=server_options(self._settings.max_concurrent_streams),
            compression=grpc.Compression.NoCompression,  # bitstreams are entropy coded already
        )
        first_frames = FirstFrames(self._catalogue.probation, GivingUp(self._catalogue, self._metrics))
        pipeline = Pipeline(
            self._runner,
            self._batcher,
            self._results,
            Chains(self._results, self._metrics, self._settings.state_bytes),
            self._metrics,
            self._tracing,
            first_frames.seen,
        )
        devices = _device_limits(self._settings)
        in_flight = self._settings.stream_in_flight
        opened = StreamOpened(max_in_flight=in_flight, held_frames=self._runner.holds)
        ingest = IngestServicer(pipeline, self._metrics, devices, self._stopping, opened)
        add_FeatureIngestServicer_to_server(ingest, server)  # type: ignore[no-untyped-call]
        results = ResultsServicer(self._results, self._metrics)
        add_ResultsServicer_to_server(results, server)  # type: ignore[no-untyped-call]
        limits = (self._settings.max_prompt_bytes, self._settings.publish_timeout_s)
        prompts = PromptsServicer(self._catalogue, self._shelf, self._metrics, *limits)
        add_PromptsServicer_to_server(prompts, server)  # type: ignore[no-untyped-call]
        models = OpenInferenceServicer(pipeline, self._runner, self._metrics, devices, self._is_ready)
        add_GRPCInferenceServiceServicer_to_server(models, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _bind(self, server: grpc.aio.Server) -> int:
        """Bind the gRPC port; the one that was chosen."""
        address = f"{self._settings.host}:{self._settings.port}"
        credentials = server_credentials(self._settings)
        certificates = {"server": self._settings.tls_cert, "client_ca": self._settings.tls_client_ca}
        pack_ends = self._trust.pack_ends if self._trust is not None else None
        export_expiry(self._metrics.certificate_expiry, certificates, pack_ends)
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"{address} cannot be bound: {error}; choose another port (0 takes a free one)"
            ) from error


def _device_limits(settings: CloudSettings) -> DeviceLimits:
    return DeviceLimits(settings.device_frames_per_s, settings.device_streams, settings.max_streams)


def _batch_limits(settings: CloudSettings) -> BatchLimits:
    if settings.ray is not None:  # batches form there; a thread here only waits for one frame
        waiting = min(settings.max_pending_frames, MAX_WAITING_THREADS)
        return BatchLimits(1, 0.0, settings.max_pending_frames, waiting)
    return BatchLimits(
        settings.max_batch, settings.batch_window_s, settings.max_pending_frames, settings.workers
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])

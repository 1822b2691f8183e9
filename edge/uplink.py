"""The way to the cloud: the one place of the edge that knows gRPC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

import grpc
import grpc.aio

from edge.settings import EdgeSettings
from splitcodec.errors import CloudRefused, CloudUnavailable, SettingsError
from splitcodec.tasks import Box, Detection
from splitcodec.wire.options import client_options
from splitcodec.wire.v1 import ingest_pb2, ingest_pb2_grpc, results_pb2

ERROR_KEY: Final = "splitcodec-error"
"""Trailing metadata key under which the cloud names the class of its error."""
_RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
_AWAY: Final = {
    grpc.StatusCode.UNAVAILABLE: "cannot be reached",
    grpc.StatusCode.DEADLINE_EXCEEDED: "did not answer",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "has too many frames waiting",
    grpc.StatusCode.CANCELLED: "dropped the call",
}


@dataclass(frozen=True)
class OutgoingFrame:
    """A compressed frame and its name; capture_time_nanos: unix time."""

    device: str
    camera: str
    seq: int
    task: str
    capture_time_nanos: int
    bitstream: bytes


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's result for one frame; prompt_digest: 8 bytes; stage_seconds: computing in the cloud."""

    detections: tuple[Detection, ...]
    prompt_digest: bytes
    stage_seconds: Mapping[str, float]


class Uplink(Protocol):
    """Sends frames to a cloud."""

    async def infer(self, frame: OutgoingFrame) -> CloudAnswer:
        """Send one frame and wait for its result. CloudUnavailable: try again; CloudRefused: it said no."""
        ...

    def state(self) -> str:
        """State of the connection: idle, connecting, ready, transient_failure or shutdown."""
        ...


class GrpcUplink:
    """One gRPC channel, opened in the running event loop and kept alive; unary calls with a deadline."""

    def __init__(self, settings: EdgeSettings) -> None:
        """Begins to connect. SettingsError: a TLS file cannot be read."""
        self._target = settings.cloud_target
        self._deadline_s = settings.deadline_s
        options = (*client_options(), *_RECONNECT)
        credentials = _credentials(settings)
        self._channel = (
            grpc.aio.insecure_channel(self._target, options)
            if credentials is None
            else grpc.aio.secure_channel(self._target, credentials, options)
        )
        self._ingest = ingest_pb2_grpc.FeatureIngestStub(self._channel)  # type: ignore[no-untyped-call]
        self._channel.get_state(try_to_connect=True)

    async def infer(self, frame: OutgoingFrame) -> CloudAnswer:
        """See Uplink."""
        request = ingest_pb2.InferRequest(
            frame=ingest_pb2.Frame(
                key=results_pb2.FrameKey(device=frame.device, camera=frame.camera, seq=frame.seq),
                capture_time_unix_nanos=frame.capture_time_nanos,
                task=frame.task,
                bitstream=frame.bitstream,
            )
        )
        try:
            response = await self._ingest.Infer(request, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        if response.result.key != request.frame.key:
            raise CloudRefused(f"the cloud at {self._target} answered for another frame; check its version")
        return _answer(response.result)

    def state(self) -> str:
        """See Uplink."""
        return self._channel.get_state(try_to_connect=True).name.lower()

    async def close(self) -> None:
        """Cancel running calls and close the channel."""
        await self._channel.close(None)

    def _translate(self, error: grpc.aio.AioRpcError) -> CloudUnavailable | CloudRefused:
        code, details = error.code(), (error.details() or "no details")[:500]
        if code in _AWAY:
            why = f"{_AWAY[code]} within {self._deadline_s} s ({details})"
            return CloudUnavailable(f"the cloud at {self._target} {why}; send the frame again later")
        metadata = cast("Iterable[tuple[str, str]]", error.trailing_metadata() or ())  # the stubs lag behind
        names = [value for key, value in metadata if key == ERROR_KEY]
        said = " ".join([code.name, *names])
        return CloudRefused(f"the cloud at {self._target} refused the frame: {said}: {details}")


def _credentials(settings: EdgeSettings) -> grpc.ChannelCredentials | None:
    if settings.cloud_ca is None:
        return None
    try:
        return grpc.ssl_channel_credentials(
            root_certificates=settings.cloud_ca.read_bytes(),
            private_key=settings.cloud_key.read_bytes() if settings.cloud_key else None,
            certificate_chain=settings.cloud_cert.read_bytes() if settings.cloud_cert else None,
        )
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read ({error.strerror}); check the cloud_* files"
        ) from error


def _answer(result: results_pb2.TaskResult) -> CloudAnswer:
    detections = tuple(
        Detection(
            item.label, item.class_id, item.score, Box(item.box.x1, item.box.y1, item.box.x2, item.box.y2)
        )
        for item in result.detections.items
    )
    return CloudAnswer(detections, result.prompt_digest, dict(result.stage_seconds))

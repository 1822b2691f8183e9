"""An edge on the tiny pack, with a real gRPC server as its cloud: for tests of the edge service."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import numpy as np
from PIL import Image
from prometheus_client import CollectorRegistry
from tiny_pack import write_tiny_pack

from edge.__main__ import build_codec
from edge.app import create_app
from edge.codec import Codec
from edge.metrics import EdgeMetrics
from edge.pipeline import EdgePipeline, open_pipeline
from edge.settings import EdgeSettings
from edge.state import EdgeState
from edge.uplink import GrpcUplink
from splitcodec.bitstream import parse
from splitcodec.wire.v1 import ingest_pb2, ingest_pb2_grpc, results_pb2

JPEG_TYPE = {"Content-Type": "image/jpeg"}
Answer = Callable[[ingest_pb2.Frame, grpc.aio.ServicerContext], Awaitable[ingest_pb2.InferResponse]]


def picture(height: int = 120, width: int = 200, kind: str = "JPEG", seed: int = 0) -> bytes:
    """A file with a smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


def one_cat(frame: ingest_pb2.Frame) -> ingest_pb2.InferResponse:
    """The answer of a cloud that sees a cat in every frame."""
    cat = results_pb2.Detection(
        label="cat", class_id=0, score=0.75, box=results_pb2.Box(x1=20, y1=10, x2=120, y2=90)
    )
    return ingest_pb2.InferResponse(
        result=results_pb2.TaskResult(
            key=frame.key,
            capture_time_unix_nanos=frame.capture_time_unix_nanos,
            task=frame.task,
            prompt_digest=parse(frame.bitstream).header.prompt_digest,
            stage_seconds={"decoder": 0.004, "tail": 0.006},
            detections=results_pb2.Detections(items=[cat]),
        )
    )


async def see_a_cat(frame: ingest_pb2.Frame, _: grpc.aio.ServicerContext) -> ingest_pb2.InferResponse:
    """`one_cat` as an answer of FakeCloud."""
    return one_cat(frame)


class Refusal(Exception):
    """Raised by an `answer`: the cloud refuses the frame."""

    def __init__(
        self, code: grpc.StatusCode, error: str = "", message: str = "", *, settled: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.error = error
        self.message = message
        self.settled = settled


@dataclass
class FakeCloud(ingest_pb2_grpc.FeatureIngestServicer):
    """Keeps the frames it gets and answers each with `answer`; settles in order; opened: streams so far."""

    answer: Answer = see_a_cat
    frames: list[ingest_pb2.Frame] = field(default_factory=list)
    target: str = ""
    opened: int = 0
    max_in_flight: int = 16
    got: asyncio.Condition = field(default_factory=asyncio.Condition)
    indexes: list[int] = field(default_factory=list)  # as the messages came
    loses: list[bool] = field(default_factory=list)  # which of the next responses vanish on their way

    async def Stream(
        self, requests: AsyncIterator[ingest_pb2.StreamRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ingest_pb2.StreamResponse]:
        self.opened += 1
        yield ingest_pb2.StreamResponse(opened=ingest_pb2.StreamOpened(max_in_flight=self.max_in_flight))
        answers: asyncio.Queue[tuple[ingest_pb2.Frame, asyncio.Task[ingest_pb2.InferResponse]] | None]
        answers = asyncio.Queue()
        reading = asyncio.create_task(self._read(requests, context, answers))
        try:
            while (item := await answers.get()) is not None:
                frame, answer = item
                try:
                    result = (await answer).result
                except Refusal as refusal:
                    yield rejected(frame, refusal)
                    if not refusal.settled:
                        await context.abort(refusal.code, refusal.message)
                else:
                    if self.loses and self.loses.pop(0):
                        continue
                    yield ingest_pb2.StreamResponse(results=[result], acks=[frame.key])
        finally:
            reading.cancel()

    async def _read(self, requests, context, answers) -> None:  # type: ignore[no-untyped-def]
        async for request in requests:
            async with self.got:
                self.frames.append(request.frame)
                self.indexes.append(request.index)
                self.got.notify_all()
            answers.put_nowait((request.frame, asyncio.ensure_future(self.answer(request.frame, context))))
        answers.put_nowait(None)

    async def wait_for(self, frames: int) -> None:
        """Until so many frames came in all."""
        async with self.got:
            await asyncio.wait_for(self.got.wait_for(lambda: len(self.frames) >= frames), 30)

    def seqs(self, camera: str = "default") -> list[int]:
        """The seqs of a camera as they came."""
        return [frame.key.seq for frame in self.frames if frame.key.camera == camera]


def rejected(frame: ingest_pb2.Frame, refusal: Refusal) -> ingest_pb2.StreamResponse:
    """What a cloud says to a frame that it refuses."""
    response = ingest_pb2.StreamResponse(
        rejections=[
            ingest_pb2.Rejection(
                key=frame.key,
                code=refusal.code.value[0],
                error=refusal.error,
                message=refusal.message,
                settled=refusal.settled,
            )
        ]
    )
    if refusal.settled:
        response.acks.append(frame.key)
    return response


@asynccontextmanager
async def fake_cloud(port: int = 0, cloud: FakeCloud | None = None) -> AsyncIterator[FakeCloud]:
    """A gRPC server on a loopback port."""
    server = grpc.aio.server()
    cloud = cloud or FakeCloud()
    ingest_pb2_grpc.add_FeatureIngestServicer_to_server(cloud, server)
    cloud.target = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield cloud
    finally:
        await server.stop(None)


def tiny_codec(folder: Path) -> Codec:
    """The tiny pack (64x96 canvas, rates 0 to 2), its sessions open."""
    write_tiny_pack(folder / "tiny")
    return build_codec(EdgeSettings(pack=str(folder / "tiny"), threads=1))


@dataclass
class EdgeRig:
    """A running edge without a socket: its HTTP client, its cloud and its parts."""

    http: httpx.AsyncClient
    cloud: FakeCloud
    pipeline: EdgePipeline

    async def post(self, data: bytes | None = None, **params: object) -> httpx.Response:
        """POST one picture as a JPEG."""
        body = picture() if data is None else data
        return await self.http.post("/v1/frames", content=body, params=params, headers=JPEG_TYPE)


@asynccontextmanager
async def edge_rig(
    codec: Codec, state_dir: Path, clock: Callable[[], float] = time.monotonic, **options: object
) -> AsyncIterator[EdgeRig]:
    """An edge over `codec` with a fake cloud; clock: of the silence of cameras; options: settings."""
    async with fake_cloud() as cloud:
        settings = EdgeSettings(
            **{"cloud_target": cloud.target, "state_dir": state_dir, "device": "box-1", **options}
        )
        uplink = GrpcUplink(settings)
        state = EdgeState(settings.state_dir, settings.device, clock=lambda: 1.0)
        metrics = EdgeMetrics(CollectorRegistry())
        async with open_pipeline(settings, codec, uplink, state, metrics, clock=clock) as pipeline:
            transport = httpx.ASGITransport(create_app(pipeline), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
                yield EdgeRig(http, cloud, pipeline)
        await uplink.close()
        state.close()

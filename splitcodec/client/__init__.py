"""Typed clients of both services, for asyncio and for threads: `pip install 'splitcodec[client]'`.

with EdgeClient("http://127.0.0.1:8080") as edge:
    report = edge.detect(Path("street.jpg"), camera="door")
with CloudClient("127.0.0.1:50051") as cloud:
    for result in cloud.watch("door"):
        print(result.seq, result.detections)
"""

from splitcodec.client.answers import (
    CameraPrompt,
    CloudPrompt,
    CloudState,
    DeadLetter,
    EdgePrompt,
    FrameReport,
    FrameTicket,
    Quarantine,
    Readiness,
    Replay,
    StoredResult,
    Timings,
)
from splitcodec.client.cloud import AsyncCloudClient, AsyncWatch
from splitcodec.client.cloud_blocking import CloudClient, Watch
from splitcodec.client.credentials import Credentials
from splitcodec.client.edge import AsyncEdgeClient
from splitcodec.client.edge_blocking import EdgeClient
from splitcodec.client.retry import Retry

__all__ = [
    "AsyncCloudClient",
    "AsyncEdgeClient",
    "AsyncWatch",
    "CameraPrompt",
    "CloudClient",
    "CloudPrompt",
    "CloudState",
    "Credentials",
    "DeadLetter",
    "EdgeClient",
    "EdgePrompt",
    "FrameReport",
    "FrameTicket",
    "Quarantine",
    "Readiness",
    "Replay",
    "Retry",
    "StoredResult",
    "Timings",
    "Watch",
]

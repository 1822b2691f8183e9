"""The HTTP interface of the edge."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from edge import problems
from edge.pipeline import EdgePipeline
from edge.report import FrameReport, PromptReport, Readiness
from edge.settings import NAME_PATTERN
from splitcodec import __version__
from splitcodec.errors import DeadlineExceeded, FrameTooLarge
from splitcodec.picture import CONTENT_TYPES, GENERIC_TYPE

DISCARD_FACTOR: Final = 4
"""An oversize body is read and dropped up to this many times the cap, so that its sender can read the 413."""
DESCRIPTION: Final = "Pictures in, task results out; only compressed features leave this machine."

Camera = Annotated[str, Query(pattern=NAME_PATTERN, description="name of the camera")]
Task = Annotated[
    str | None, Query(max_length=64, description="task of an active prompt; by default the edge's own")
]
Rate = Annotated[
    float | None, Query(description="0 is the fewest bytes; GET /v1/prompts tells the highest rate")
]


def create_app(pipeline: EdgePipeline) -> FastAPI:
    """The application over a pipeline that is ready to serve."""
    app = FastAPI(title="splitcodec edge", version=__version__, description=DESCRIPTION)
    app.include_router(_frames(pipeline))
    app.include_router(_operations(pipeline))
    problems.install(app)
    return app


def _frames(pipeline: EdgePipeline) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["frames"], responses=_PROBLEM_RESPONSES)

    @router.post("/frames", openapi_extra=_PICTURE_BODY)
    async def post_frame(
        request: Request, camera: Camera = "default", task: Task = None, rate: Rate = None
    ) -> FrameReport:
        """Encode one picture (the raw bytes of its file), run the task in the cloud, return the result."""
        order = pipeline.order(camera, task, rate)
        with pipeline.accounted(order):
            picture = await read_body(
                request, pipeline.settings.max_picture_bytes, pipeline.settings.upload_timeout_s
            )
            # A missing content type is refused ("" is no picture type); None would mean "go by the bytes".
            return await pipeline.process(order, picture, request.headers.get("content-type", ""))

    @router.get("/frames/{frame_id}")
    async def get_frame(frame_id: str) -> FrameReport:
        """The result of a recent frame."""
        return pipeline.report(frame_id)

    @router.get("/frames/{frame_id}/overlay.jpg", response_class=Response, responses=_JPEG_RESPONSE)
    async def get_overlay(frame_id: str) -> Response:
        """The picture of a recent frame with its detections drawn on it."""
        return Response(await pipeline.overlay(frame_id), media_type="image/jpeg")

    @router.get("/prompts")
    async def get_prompts() -> list[PromptReport]:
        """The prompts this edge can encode with."""
        return pipeline.prompts()

    return router


def _operations(pipeline: EdgePipeline) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def get_health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def get_readiness() -> Readiness:
        """The pack is loaded and frames are taken; the state of the cloud is for information."""
        return pipeline.readiness()

    @router.get("/metrics", response_class=Response)
    async def get_metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(pipeline.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The raw body, never more than max_bytes of it in memory, whatever its Content-Length claims.

    FrameTooLarge: it is longer; DeadlineExceeded: it did not arrive within timeout_s.
    """
    try:
        return await asyncio.wait_for(_receive(request, max_bytes), timeout_s)
    except asyncio.TimeoutError:
        raise DeadlineExceeded(
            f"the picture did not arrive within {timeout_s} s; send it over a faster link"
        ) from None


async def _receive(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
            continue
        chunks.clear()
        if size > DISCARD_FACTOR * max_bytes:
            break
    if size > max_bytes:
        raise FrameTooLarge(f"the picture has more than {max_bytes} bytes, the limit; scale it down")
    return b"".join(chunks)


_PICTURE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in (*CONTENT_TYPES, GENERIC_TYPE)
        },
    }
}
_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
    },
}
_PROBLEM_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": title, "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA}}}
    for status, title in sorted(
        {problem.status: problem.title for problem in problems.PROBLEMS.values()}.items()
    )
}
_JPEG_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"image/jpeg": {}}}}

"""The HTTP interface of the edge."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Header, Query, Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder
from pydantic import Field

from edge import problems
from edge.body import receive_picture
from edge.docs_page import docs_routes
from edge.frame_json import FrameJson
from edge.page_routes import list_routes, page_routes
from edge.pipeline import EdgePipeline
from edge.posts import KEY_PATTERN, post_of
from edge.prompt_routes import camera_routes, prompt_routes
from edge.quarantine_routes import quarantine_routes
from edge.report import FrameStatus, Readiness
from splitcodec import __version__
from splitcodec.picture import CONTENT_TYPES, GENERIC_TYPE
from splitcodec.wire.names import NAME_PATTERN

_JSON: Final = "application/json"
DESCRIPTION: Final = "Pictures in, task results out; only compressed features leave this machine."

Camera = Annotated[str, Query(pattern=NAME_PATTERN, description="name of the camera")]
Task = Annotated[
    str | None, Query(max_length=64, description="task of an active prompt; by default the edge's own")
]
Rate = Annotated[
    float | None, Query(description="0 is the fewest bytes; GET /v1/prompts tells the highest rate")
]
MAX_WAIT_S: Final = 60.0
Wait = Annotated[
    Annotated[float, Field(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] | bool,
    Query(
        description="seconds to wait for the result; 0 or false: answer 202 as soon as the frame is on disk; "
        "true, the default: deadline_s"
    ),
]
Key = Annotated[
    str | None,
    Header(
        pattern=KEY_PATTERN,
        description="a POST that is repeated with its key and picture is the same frame",
    ),
]


def create_app(pipeline: EdgePipeline) -> FastAPI:
    """The application over a pipeline that is ready to serve."""
    app = FastAPI(
        title="splitcodec edge", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.include_router(page_routes())
    app.include_router(docs_routes(app))
    app.include_router(list_routes(pipeline, _PROBLEM_RESPONSES))
    app.include_router(_frames(pipeline))
    app.include_router(camera_routes(pipeline, _PROBLEM_RESPONSES))
    app.include_router(prompt_routes(pipeline, _PROBLEM_RESPONSES))
    app.include_router(quarantine_routes(pipeline.quarantine, _PROBLEM_RESPONSES))
    app.include_router(_operations(pipeline))
    problems.install(app)
    return app


def _frames(pipeline: EdgePipeline) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["frames"], responses=_PROBLEM_RESPONSES)
    written = FrameJson()
    answers = written.schema | FrameStatus

    @router.post("/frames", openapi_extra=_PICTURE_BODY, responses=_SPOOLED_RESPONSE, response_model=answers)
    async def post_frame(
        request: Request,
        camera: Camera = "default",
        task: Task = None,
        rate: Rate = None,
        wait: Wait = True,
        prefer: Annotated[str, Header(description="respond-async is wait=0")] = "",
        idempotency_key: Key = None,
    ) -> Response:
        """Encode one picture (the raw bytes of its file), run the task in the cloud, return the result (200).

        202: the frame is safe on this edge's disk and the cloud gets it later, because it is away, or slower
        than `wait`.
        """
        order = pipeline.order(camera, task, rate)
        with pipeline.count_outcome(order) as counted:
            settings = pipeline.settings
            picture = await receive_picture(
                pipeline.uploads, request, settings.max_picture_bytes, settings.upload_timeout_s
            )
            kind = request.headers.get("content-type")
            wait_s = 0.0 if "respond-async" in prefer.lower() else _seconds(wait)
            post = None if idempotency_key is None else post_of(idempotency_key, picture, camera, task, rate)
            outcome = await pipeline.process(order, picture, kind, wait_s=wait_s, post=post)
            if post is not None and post.repeated:
                counted.outcome = "repeated"
            elif isinstance(outcome, FrameStatus):
                counted.outcome = "spooled"
        # As JSON at once: the framework would check its own answer again first.
        body = written.dump(outcome)
        if isinstance(outcome, FrameStatus):
            return Response(body, 202, {"Location": f"/v1/frames/{outcome.id}"}, _JSON)
        return Response(body, media_type=_JSON)

    @router.get("/frames/{frame_id}", response_model=answers)
    async def get_frame(frame_id: str) -> Response:
        """The result of a recent frame, or what became of one that has none yet."""
        return Response(written.dump(await pipeline.find(frame_id)), media_type=_JSON)

    @router.get("/frames/{frame_id}/overlay.jpg", response_class=Response, responses=_JPEG_RESPONSE)
    async def get_overlay(frame_id: str) -> Response:
        """The picture of a recent frame with its result drawn on it."""
        return Response(await pipeline.overlay(frame_id), media_type="image/jpeg")

    return router


def _seconds(wait: float | bool) -> float | None:
    """How long to wait for a result; None: deadline_s."""
    if wait is True:
        return None
    return 0.0 if wait is False else wait


def _operations(pipeline: EdgePipeline) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def get_health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def get_readiness(response: Response) -> Readiness:
        """The pack is loaded and frames are taken (else 503); cloud and spool are for information."""
        readiness = pipeline.readiness()
        response.status_code = 200 if readiness.ready else 503
        return readiness

    @router.get("/metrics", response_class=Response)
    async def get_metrics(accept: Annotated[str, Header()] = "") -> Response:
        """Prometheus metrics, in the format asked for; OpenMetrics has the trace ids of exemplars."""
        pipeline.orders.drop_silent()
        generate, kind = choose_encoder(accept)
        return Response(generate(pipeline.metrics.registry), media_type=kind)

    return router


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
_SPOOLED_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": FrameStatus, "description": "The frame is on disk; Location tells what becomes of it"}
}
_JPEG_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"image/jpeg": {}}}}
